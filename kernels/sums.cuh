// The sums of kernels/convolve.cu: a step's products by tensor cores, and where a warp's threads have what it makes.
#pragma once
#include "operands.cuh"

// 4 columns at each of a thread's depths of a step, as hi + lo.
struct Halves {
    float hi[DEPTH / 4][4], lo[DEPTH / 4][4];

    __device__ Halves(Shared from, int length) {
#pragma unroll
        for (int k = 0; k < DEPTH / 4; ++k) {
            float given[4];
            (from + 4 * k * length).load(given);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                hi[k][i] = rounded_to_tf32(given[i]);
                lo[k][i] = given[i] - hi[k][i];
            }
        }
    }
};

// made[n] += a · b, for 16 rows and 4 tiles of 8 columns, at 8 depths from 8k on.
__device__ inline void multiply_row(float (&made)[4][4], const float (&a)[4], const float (&b)[DEPTH / 4][4], int k) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const float columns[2] = {b[2 * k][n], b[2 * k + 1][n]};
        multiply_tiles(made[n], a, columns);
    }
}

// What a thread of a warp's BM × 32 numbers has: of every 32 rows and 16 columns rows 4g .. 4g + 3 and columns 4t .. 4t +
// 3, for lane 4g + t.  A tensor core's tiles take every fourth row of 32 or its neighbour, and every fourth column, so
// that what a thread loads, and what it has in the end, are neighbours; and of the columns, a tile's even ones from one
// half and its odd ones from the other, so that 4 threads have 16 neighbours, which memory moves at once.
template <int BM> struct Sums {
    static constexpr int ROWS = BM / 8;
    float at[ROWS][8] = {};

    // A step: a and b in shared memory, from a thread's own place on.  The small products first.
    __device__ void add(Shared a, Shared b, int b_length) {
        const Halves columns(b, b_length);
#pragma unroll
        for (int pair = 0; pair < ROWS / 2; ++pair) {
            float hi[DEPTH / 8][4], lo[DEPTH / 8][4], made[4][4] = {};
#pragma unroll
            for (int k = 0; k < DEPTH / 8; ++k) {
                (a + Weights::group(k, pair, 0)).load(hi[k]);
                (a + Weights::group(k, pair, 1)).load(lo[k]);
            }
#pragma unroll
            for (int k = 0; k < DEPTH / 8; ++k) {
                multiply_row(made, lo[k], columns.hi, k);
                multiply_row(made, hi[k], columns.lo, k);
            }
#pragma unroll
            for (int k = 0; k < DEPTH / 8; ++k) multiply_row(made, hi[k], columns.hi, k);
            add(made, 2 * pair);
        }
    }
    __device__ void add(const float (&made)[4][4], int row) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) at[row + i / 2][n + i % 2 * 4] += made[n][i];
        }
    }
    // The row of at[i], from the thread's first, and the column of at[..][j]; where a lane's columns begin in B.
    __device__ static int down(int i) { return i / 4 * 32 + i % 4; }
    __device__ static int across(int j) { return j / 4 * 16 + j % 4; }
    __device__ static int begin(int g) { return g / 2 * 4 + g % 2 * 16; }
    // All below 2^126: neither infinite nor too large for a reciprocal.
    __device__ bool ordinary() const {
        float zero = 0.0f;
#pragma unroll
        for (int i = 0; i < 8 * ROWS; ++i) zero += 0.0f * (4.0f * at[i / 8][i % 8]);
        return zero == 0.0f;
    }
};
