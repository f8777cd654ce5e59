// What becomes of the sums of kernels/convolve.cu: from the registers of a warp to where their windows lie.
//
// Memory    What is read beside them is on its way, all of it, before any of it is used.
#pragma once
#include "sums.cuh"

// A convolution of those that make a result: where its weights begin, and where in a plane its first window is.
struct Phase {
    Geometry<int> w;
    int weights, first;
};

// PHASES at most, whose windows lie ``steps`` apart in a plane of rows of this width; one fills the plane.
template <int PHASES> struct Phases {
    Phase at[PHASES];
    int steps[2], width, plane;
};

// What becomes of a sum z: itself, or z · r, and what is there already; the first where r > 0, and what is positive of
// it if it is rectified, as in rectifier.cu; r / stab(z + bias), as in stabilize.cu.
enum { PLAIN, TIMES, GATED, QUOTIENT };

// What ends need that is the same everywhere.
struct Settings {
    float epsilon;
    bool rectified;
};

template <int END, bool ORDINARY = false>
__device__ float finished(float z, float r, float onto, float bias, Settings settings) {
    if constexpr (END == PLAIN) return z + onto;
    if constexpr (END == TIMES) return z * r + onto;
    if constexpr (END == GATED) {
        z += onto;
        if (settings.rectified && z <= 0.0f) z = 0.0f;
        return r > 0.0f ? z : 0.0f;
    }
    z += bias;
    z += z >= 0.0f ? settings.epsilon : -settings.epsilon;
    return ORDINARY ? divided(r, z) : r / z;
}

// y, r and onto, samples × rows × planes, and bias, one of a row; r and bias are read where END needs them.  Null, onto is
// -0, and r a 1: neither changes anything.
template <int END, int PHASES> struct Result {
    static constexpr int LENGTH = 36;  // of a row of 32 in shared memory, which is a warp's own: 32 rows
    float* y;
    const float *r, *onto, *bias;
    Settings settings;
    int rows, columns;
    const Phases<PHASES>& phases;
    const Phase& phase;

    // Where a column starts, in row 0; -1 beyond the last.
    __device__ int start(int column) const {
        const Place<int> window(phase.w, column);
        if (column >= columns) return -1;
        if constexpr (PHASES == 1) return window.plane * (rows - 1) * phases.plane + column;
        const int down = window.at[1] * phases.steps[0], right = window.at[2] * phases.steps[1];
        return window.plane * rows * phases.plane + down * phases.width + right + phase.first;
    }
    __device__ void write(int at, int row, float z) const {
        const float given = reads_r() ? r[at] : 1.0f, there = onto ? onto[at] : -0.0f;
        y[at] = finished<END>(z, given, there, END == QUOTIENT ? bias[row] : 0.0f, settings);
    }
    // What will be read is fetched to where it is nearer: of 32 columns from one on a line of each row.
    __device__ void prefetch(int row, int column, int step, int end) const {
        const int at = start(column);
        for (int m = row; at >= 0 && m < end && m < rows; m += step) {
            if (reads_r()) prefetch_line(r + at + m * phases.plane);
            if (END != QUOTIENT && onto) prefetch_line(onto + at + m * phases.plane);
        }
    }
    // 4 neighbours lie in one sample, aligned to 16 bytes.
    __device__ bool packed() const {
        return PHASES == 1 && phases.plane % 4 == 0 && start_at_packs(y, onto) && (!reads_r() || start_at_packs(r));
    }
    // What a thread has, from a row and a column on.  All that is read for 8 rows is on its way before it is used.
    template <int BM> __device__ void write_packs(int row, int column, const Sums<BM>& sums) const {
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            const int at = start(column + sums.across(j));
#pragma unroll
            for (int first = 0; first < sums.ROWS; first += 8) write_packs(at, row, first, j, sums);
        }
    }
    // What a warp has, from a row and a column on, by way of shared memory: 32 neighbours at a time.
    template <int BM> __device__ void write_rows(int row, int column, const Sums<BM>& sums, Shared own) const {
        const int lane = threadIdx.x % 32, at = start(column + lane);
        const Shared from = own + lane, to = own + (lane / 4 * 4 * LENGTH + lane % 4 * 4);
#pragma unroll
        for (int half = 0; half < sums.ROWS; half += 4) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 8; j += 4) {
                    const float(&z)[8] = sums.at[half + i];
                    (to + (i * LENGTH + sums.across(j))).store(z[j], z[j + 1], z[j + 2], z[j + 3]);
                }
            }
            __syncwarp();
#pragma unroll 1
            for (int i = 0; i < 32; i += 8) write_eight(at, row + sums.down(half) + i, from + i * LENGTH);
            __syncwarp();
        }
    }

private:
    __device__ bool reads_r() const { return END != PLAIN && (END != GATED || r); }

    template <int BM>
    __device__ void write_packs(int at, int row, int first, int j, const Sums<BM>& sums) const {
        Pack<float> given[8], there[8];
        float added[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int m = row + sums.down(first + i), place = at + m * phases.plane;
            const bool inside = at >= 0 && m < rows;
            given[i] = {1.0f, 1.0f, 1.0f, 1.0f};
            if (reads_r() && inside) given[i] = *reinterpret_cast<const Pack<float>*>(r + place);
            there[i] = {-0.0f, -0.0f, -0.0f, -0.0f};
            if (END != QUOTIENT && onto && inside) there[i] = *reinterpret_cast<const Pack<float>*>(onto + place);
            added[i] = END == QUOTIENT && inside ? bias[m] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int m = row + sums.down(first + i);
            Pack<float> made;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const float z = sums.at[first + i][j + k];
                made.at[k] = finished<END, true>(z, given[i].at[k], there[i].at[k], added[i], settings);
            }
            if (at >= 0 && m < rows) *reinterpret_cast<Pack<float>*>(y + at + m * phases.plane) = made;
        }
    }
    __device__ void write_eight(int at, int row, Shared from) const {
        float z[8], given[8], there[8], added[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int place = at + (row + i) * phases.plane;
            const bool inside = at >= 0 && row + i < rows;
            given[i] = reads_r() && inside ? r[place] : 1.0f;
            there[i] = END != QUOTIENT && onto && inside ? onto[place] : -0.0f;
            added[i] = END == QUOTIENT && inside ? bias[row + i] : 0.0f;
            z[i] = (from + i * LENGTH).load();
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float made = finished<END, true>(z[i], given[i], there[i], added[i], settings);
            if (at >= 0 && row + i < rows) y[at + (row + i) * phases.plane] = made;
        }
    }
};
