// What kernels/convolve.cu multiplies: its steps, and how weights and data come to where tensor cores take them.
//
// Layout    convolve.cu.  A stage of shared memory holds A, the weights of a step as operands, and behind it B, what
//           windows see of it: DEPTH rows of BN columns.
#pragma once
#include "tensor_cores.cuh"
#include "windows.cuh"

constexpr int DEPTH = 16, STAGES = 2;  // of a step; steps whose numbers lie in shared memory or are on their way

// The steps of all offsets, and of a convolution.
template <int TAPS> __device__ int steps(const Geometry<int>& w) { return (w.offsets() + TAPS - 1) / TAPS; }

template <int TAPS> __device__ int steps(const Geometry<int>& w, int channels) {
    return steps<TAPS>(w) * ((channels * TAPS + DEPTH - 1) / DEPTH);
}

// Rows of B in shared memory are 4 longer than they need: then 8 threads that load 16 bytes each, at 4 depths of 2
// places 16 columns apart, find them in different banks.
template <int BM, int BN> struct Tile {
    static constexpr int THREADS = BN;  // a warp for 32 columns
    static constexpr int A = 2 * DEPTH * BM, B = BN + 4, STAGE = A + DEPTH * B, SHARED = STAGES * STAGE;
    // A multiprocessor's threads: as many as there are registers for, or fewer that need not wait for each other.
    static constexpr int RESIDENT = BN > 64 ? 256 : 384;
};

// A step's weights, hi and lo, for 64 rows, in the order in which the lanes of a warp take them, 4 each: those of two
// rows at two depths, 4 apart, which are one operand.
struct Weights {
    static constexpr int LANES = 32 * 4, PARTS = 2, TILES = 4, ROWS = 64, SIZE = DEPTH * ROWS * PARTS;

    // Of tile ``pair`` of 16 rows, at 8 depths from 8k on.
    __device__ static constexpr int group(int k, int pair, int part) {
        return pair / TILES * SIZE + ((k * TILES + pair % TILES) * PARTS + part) * LANES;
    }
    // Of one number.
    __device__ static int place(int depth, int row, int part) {
        const int pair = row / 32 * 2 + row % 4 / 2, lane = row % 32 / 4 * 4 + depth % 4;
        return group(depth / 8, pair, part) + lane * 4 + depth % 8 / 4 * 2 + row % 2;
    }
};

// The part of the weights that a thread copies, 16 bytes at a time.
template <int BM, int BN> struct Copied {
    static constexpr int APART = Tile<BM, BN>::THREADS * 4;
    const float* from;
    int padded;
    Shared to;

    __device__ Copied(const float* weights, int padded, int above, int first, Shared a)
        : from(weights + (above * padded + first) * 2 * DEPTH + threadIdx.x * 4), padded(padded) {
        to = held(a + threadIdx.x * 4);
    }
    // What the next step needs, into a stage of shared memory.
    __device__ void copy(int stage) {
#pragma unroll
        for (int i = 0; i < Tile<BM, BN>::A; i += APART) copy_later<4>(to + (stage + i), from + i, true);
        from += padded * 2 * DEPTH;
    }
};

// The part of what windows see that a thread copies: 1 column, or 4 neighbours, at some depths.  Several offsets in one
// step are for channels that are one chunk: behind its last offset there is nothing.
template <int BM, int BN, bool WIDE, int TAPS> struct Seen {
    static constexpr int COLUMNS = WIDE ? 4 : 1, ACROSS = BN / COLUMNS, APART = Tile<BM, BN>::THREADS / ACROSS;
    static constexpr int CHANNELS = DEPTH / TAPS;
    const float* x;
    int plane, left, depth, from, top, start, row = 0, column = 0;
    Shared to;

    __device__ Seen(const float* x, const Geometry<int>& w, int channels, int above, int left, int first, int columns,
                    Shared b)
        : x(x), plane(w.inputs()), left(left), depth(threadIdx.x / ACROSS) {
        const int across = threadIdx.x % ACROSS * COLUMNS;
        const Place<int> window(w, first + across);
        top = window.at[1] * w.strides[1] - w.before[1];
        start = held(window.at[2] * w.strides[2] - w.before[2]);
        from = held((window.plane * channels + above + depth) * plane + top * w.size_in[2] + start);
        top = held(first + across < columns ? top : w.size_in[1]);  // beyond the last column, all is outside
        to = held(b + (depth * Tile<BM, BN>::B + across));
    }
    __device__ void copy(int stage, const Geometry<int>& w) {
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            copy_channels(stage + tap * CHANNELS * Tile<BM, BN>::B, w);
            advance(w);
        }
    }
    __device__ void copy_channels(int stage, const Geometry<int>& w) {
        const int down = row * w.dilations[1], right = column * w.dilations[2];
        const bool inside = below(top + down, w.size_in[1]) && below(start + right, w.size_in[2]);
        const float* at = x + (from + down * w.size_in[2] + right);
        const auto each = [&](auto given) {
#pragma unroll
            for (int i = 0; i < CHANNELS; i += APART) {
                copy_later<COLUMNS>(to + (stage + i * Tile<BM, BN>::B), at + static_cast<long long>(plane) * i, given(i));
            }
        };
        if (TAPS == 1 && left >= CHANNELS) {
            each([=](int) { return inside; });
        } else {
            each([=](int i) { return inside && i < left - depth; });
        }
    }
    // Neighbouring offsets see nearly the same numbers, which the cache then still has.
    __device__ void advance(const Geometry<int>& w) {
        if (++column < w.kernel[2]) return;
        column = 0;
        if (++row < w.kernel[1]) return;
        row = 0;
        from += CHANNELS * plane;
        left -= CHANNELS;
    }
};
