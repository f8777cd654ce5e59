// Sliding windows: their geometry, what each sees, and which of them see a position.
//
// Indices   I is int where every index stays below 2^28, else long long.  A GPU has no instruction that
//           divides: by what all threads divide by, they multiply (Divisor).
// Memory    Adjoints gather, a strip of a column a thread (Strip), so that no two threads write to one
//           place: no atomics, and every sum has one order.
#pragma once
#include "numbers.cuh"

// A divisor with what replaces it below 2^31: n / d is the upper half of 2n * magic, shifted
// (Granlund & Montgomery 1994; made in onnxvis/ops/device/geometry.py).
template <typename I> struct Divisor {
    I divisor;
    unsigned magic;
    int shift;

    __device__ I quotient(I n) const {  // of n >= 0
        if constexpr (sizeof(I) > 4) return n / divisor;
        const unsigned long long product = static_cast<unsigned long long>(2u * static_cast<unsigned>(n)) * magic;
        return static_cast<I>(static_cast<unsigned>(product >> 32) >> shift);
    }
    // The quotient; n becomes the remainder.
    __device__ I split(I& n) const {
        const I whole = quotient(n);
        n -= whole * divisor;
        return whole;
    }
};

// onnxvis.ops.window.Window over three axes; nets with fewer have axes of length 1 in front.
// Window o sees the input at o*strides + k*dilations - before, for each k below kernel; outside is padding.
template <typename I> struct Geometry {
    I kernel[3], strides[3], dilations[3], before[3], size_in[3], size_out[3];
    Divisor<I> by_stride[3], by_out[3];
    Divisor<I> by_in[3];  // the middle one by the number of strips of ROWS rows

    __device__ I offsets() const { return kernel[0] * kernel[1] * kernel[2]; }
    __device__ I inputs() const { return size_in[0] * size_in[1] * size_in[2]; }
    __device__ I windows() const { return size_out[0] * size_out[1] * size_out[2]; }
};

// 0 <= i < end, in one comparison; end is not negative.
template <typename I> __device__ bool below(I i, I end) {
    if constexpr (sizeof(I) > 4) return static_cast<unsigned long long>(i) < static_cast<unsigned long long>(end);
    return static_cast<unsigned>(i) < static_cast<unsigned>(end);
}

// Whole numbers first .. last; none where last < first.
template <typename I> struct Span {
    I first, last;
};

// A window, from its number counted through all planes.
template <typename I> struct Place {
    I plane, at[3];

    __device__ Place(const Geometry<I>& w, I number) {
        at[2] = number;
        at[1] = w.by_out[2].split(at[2]);
        at[0] = w.by_out[1].split(at[1]);
        plane = w.by_out[0].split(at[0]);
    }
    // The input that it sees through its first offset; -1 where that is padding.
    __device__ I first_seen(const Geometry<I>& w) const {
        I place = plane;
        for (int axis = 0; axis < 3; ++axis) {
            const I i = at[axis] * w.strides[axis] - w.before[axis];
            if (!below(i, w.size_in[axis])) return -1;
            place = place * w.size_in[axis] + i;
        }
        return place;
    }
};

// visit(at, x[at]) for every input position at that a window sees, row-major; positions are counted through all
// planes.  A few numbers are loaded before the first is used, so that their ways from memory overlap.  Some of
// them may be padding: visit is then given ``outside``, which must change nothing.
template <typename T, typename I, typename Visit>
__device__ void each_seen(
    const Geometry<I>& w, const Place<I>& window, const T* x, typename Wide<T>::type outside, Visit visit) {
    constexpr int LOADS = 3;
    const I start = window.at[2] * w.strides[2] - w.before[2], reach = start + w.kernel[2] * w.dilations[2];
    const I end = reach < 0 ? I(0) : reach < w.size_in[2] ? reach : w.size_in[2];
    I i0 = window.at[0] * w.strides[0] - w.before[0];
#pragma unroll 1
    for (I k0 = 0; k0 < w.kernel[0]; ++k0, i0 += w.dilations[0]) {
        if (!below(i0, w.size_in[0])) continue;
        I i1 = window.at[1] * w.strides[1] - w.before[1];
#pragma unroll 1
        for (I k1 = 0; k1 < w.kernel[1]; ++k1, i1 += w.dilations[1]) {
            if (!below(i1, w.size_in[1])) continue;
            const I row = ((window.plane * w.size_in[0] + i0) * w.size_in[1] + i1) * w.size_in[2];
#pragma unroll 1
            for (I i2 = start; i2 < end; i2 += LOADS * w.dilations[2]) {
                typename Wide<T>::type seen[LOADS];
#pragma unroll
                for (int j = 0; j < LOADS; ++j) {
                    const I i = i2 + j * w.dilations[2];
                    seen[j] = outside;
                    if (below(i, end)) seen[j] = static_cast<typename Wide<T>::type>(x[row + i]);
                }
#pragma unroll
                for (int j = 0; j < LOADS; ++j) visit(row + i2 + j * w.dilations[2], seen[j]);
            }
        }
    }
}

// The windows that reach as far as position i along one axis, whatever dilation makes them leave out.
template <typename I> __device__ Span<I> reaching(const Geometry<I>& w, int axis, I i) {
    const I at = i + w.before[axis], beyond = at - (w.kernel[axis] - 1) * w.dilations[axis];
    const I last = at < 0 ? I(-1) : w.by_stride[axis].quotient(at);
    return {beyond <= 0 ? I(0) : w.by_stride[axis].quotient(beyond + w.strides[axis] - 1),
            last < w.size_out[axis] ? last : w.size_out[axis] - 1};
}

// Whether window o sees position i, which it reaches, along one axis.
template <typename I> __device__ bool sees(const Geometry<I>& w, int axis, I o, I i) {
    const I distance = i + w.before[axis] - o * w.strides[axis], dilation = w.dilations[axis];
    if (distance < 0 || distance > (w.kernel[axis] - 1) * dilation) return false;
    return dilation == 1 || distance % dilation == 0;
}

constexpr int ROWS = 4;

// Up to ROWS positions below each other, row .. end - 1 of a column, from the strip's number.
template <typename I> struct Strip {
    I plane, depth, column, row, end;

    __device__ Strip(const Geometry<I>& w, I number) {
        I strip = w.by_in[2].split(column = number);
        depth = w.by_in[1].split(strip);
        plane = w.by_in[0].split(depth);
        row = strip * ROWS;
        end = row + ROWS < w.size_in[1] ? row + ROWS : w.size_in[1];
    }
    // Where the first of them lies, counted through all planes; the next one is size_in[2] further.
    __device__ I start(const Geometry<I>& w) const {
        return ((plane * w.size_in[0] + depth) * w.size_in[1] + row) * w.size_in[2] + column;
    }

    __device__ Span<I> reaching_rows(const Geometry<I>& w) const {
        return {reaching(w, 1, row).first, reaching(w, 1, end - 1).last};
    }

    template <typename T, typename W> __device__ void write(const Geometry<I>& w, T* out, const W (&sums)[ROWS]) const {
        const I first = start(w);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            if (row + i < end) out[first + i * w.size_in[2]] = static_cast<T>(sums[i]);
        }
    }
};
