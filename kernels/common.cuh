// What every kernel shares: number types, the loop over a grid, and the geometry of sliding windows.
//
// Needs no header: NVRTC compiles it as it stands.  Under g++ the tests put a shim in front that defines
// the CUDA words (tests/kernels/shim.h), so that the same source runs on the CPU.
//
// Numbers   T is float, double, or Half (float16 in memory, float32 in registers).
// Indices   I is int where every index stays below 2^28, else long long: 64-bit division is slow on a GPU.
// Layout    every array is contiguous and row-major; the launch code copies views before it passes them.
// Grid      one axis, any size: each kernel walks 0 .. count-1 in strides of the whole grid, so that an
//           empty count and a grid smaller than the count are both right.
#pragma once

// ---- numbers ----------------------------------------------------------------------------------------

struct Half {
    unsigned short bits;
    Half() = default;
#ifdef __CUDACC__
    __device__ explicit Half(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
    __device__ operator float() const {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
#else
    explicit Half(float value) : bits(shim_half(value)) {}
    operator float() const { return shim_float(bits); }
#endif
};

// What numbers of type T are computed and summed in.
template <typename T> struct Wide { typedef T type; };
template <> struct Wide<Half> { typedef float type; };

// A loop over 0 .. count-1 that the whole grid shares.
#define GRID_STRIDE(I, i, count)                                                           \
    for (I i = static_cast<I>(blockIdx.x) * static_cast<I>(blockDim.x) + static_cast<I>(threadIdx.x); \
         i < count; i += static_cast<I>(gridDim.x) * static_cast<I>(blockDim.x))

// ---- windows ----------------------------------------------------------------------------------------

// onnxvis.ops.window.Window over three axes; nets with fewer have axes of length 1 in front.
// Window o sees the input at o*strides + k*dilations - before, for each k below kernel; outside is padding.
template <typename I> struct Geometry {
    I kernel[3], strides[3], dilations[3], before[3], size_in[3], size_out[3];

    __device__ I offsets() const { return kernel[0] * kernel[1] * kernel[2]; }
    __device__ I inputs() const { return size_in[0] * size_in[1] * size_in[2]; }
    __device__ I windows() const { return size_out[0] * size_out[1] * size_out[2]; }
};

// visit(k, at) for every offset k of window o, row-major; at: the input position, or -1 on padding.
template <typename I, typename Visit>
__device__ void each_offset(const Geometry<I>& w, I o, Visit visit) {
    const I o2 = o % w.size_out[2], o1 = o / w.size_out[2] % w.size_out[1];
    const I o0 = o / w.size_out[2] / w.size_out[1];
    I k = 0;
    for (I a = 0; a < w.kernel[0]; ++a) {
        const I i0 = o0 * w.strides[0] + a * w.dilations[0] - w.before[0];
        for (I b = 0; b < w.kernel[1]; ++b) {
            const I i1 = o1 * w.strides[1] + b * w.dilations[1] - w.before[1];
            const bool inside = i0 >= 0 && i0 < w.size_in[0] && i1 >= 0 && i1 < w.size_in[1];
            const I row = inside ? (i0 * w.size_in[1] + i1) * w.size_in[2] : I(0);
            for (I c = 0; c < w.kernel[2]; ++c, ++k) {
                const I i2 = o2 * w.strides[2] + c * w.dilations[2] - w.before[2];
                visit(k, inside && i2 >= 0 && i2 < w.size_in[2] ? row + i2 : I(-1));
            }
        }
    }
}

// The window that sees input i through kernel offset k along one axis; negative where there is none.
template <typename I>
__device__ I window_at(const Geometry<I>& w, int axis, I i, I k) {
    const I start = i + w.before[axis] - k * w.dilations[axis];
    const I o = start / w.strides[axis];
    return o * w.strides[axis] == start && o < w.size_out[axis] ? o : I(-1);
}

// visit(k, o) for every window o that sees the input position at, through offset k; k row-major.
// This is how adjoints gather: no two threads write to one place, so no atomics, and one fixed order of sums.
template <typename I, typename Visit>
__device__ void each_window(const Geometry<I>& w, I at, Visit visit) {
    const I i2 = at % w.size_in[2], i1 = at / w.size_in[2] % w.size_in[1];
    const I i0 = at / w.size_in[2] / w.size_in[1];
    for (I a = 0; a < w.kernel[0]; ++a) {
        const I o0 = window_at(w, 0, i0, a);
        if (o0 < 0) continue;
        for (I b = 0; b < w.kernel[1]; ++b) {
            const I o1 = window_at(w, 1, i1, b);
            if (o1 < 0) continue;
            for (I c = 0; c < w.kernel[2]; ++c) {
                const I o2 = window_at(w, 2, i2, c);
                if (o2 >= 0) {
                    visit((a * w.kernel[1] + b) * w.kernel[2] + c, (o0 * w.size_out[1] + o1) * w.size_out[2] + o2);
                }
            }
        }
    }
}
