// The windows that nets have most: K × K offsets, S apart along both of the two last axes, without dilation.
//
// Memory    A thread goes through TILE rows of the input in one column (Part), so that neighbouring threads load and
//           store neighbouring numbers however rows are aligned.  What it needs is a tile of known size, on its way
//           from memory as a whole before the first number is used (load).
// Bounds    0 <= before < K (fixed_windows in onnxvis/ops/device/geometry.py); sizes are any.
#pragma once
#include "windows.cuh"

constexpr int TILE = 8;  // a multiple of every S

// The last two axes; what precedes them counts as planes.  All planes' rows can be counted by an int.
struct Sliding {
    int before[2], size_in[2], size_out[2];
    Divisor<int> by_column, by_strip;  // columns, and strips of rows, in a plane
};

// A thread's column, and which strip of it, from the thread's number.
struct Part {
    int column, strip, plane;

    __device__ Part(const Sliding& w, int number) {
        strip = w.by_column.split(column = number);
        plane = w.by_strip.split(strip);
    }
    // From where row and column would be found in the part's plane.
    template <typename T> __device__ T* find(T* x, const int (&size)[2], int row, int column) const {
        return x + (static_cast<long long>(plane * size[0] + row) * size[1] + column);
    }
    // tile[r][c] = what lies in row + r and column + c; outside beyond the plane, and left of column ``from``.
    template <typename T, typename V, int R, int C>
    __device__ void load(
        V (&tile)[R][C], const T* x, const int (&size)[2], int row, int column, V outside, int from = 0) const {
        const T* at = find(x, size, row, column);
#pragma unroll
        for (int r = 0; r < R; ++r, at += size[1]) {
#pragma unroll
            for (int c = 0; c < C; ++c) {
                tile[r][c] = outside;
                const bool held = column + c >= from && column + c < size[1];
                if (held && below(row + r, size[0])) tile[r][c] = at[c];
            }
        }
    }
    // Numbers below each other, from a row on that may lie in front of the plane.
    template <typename T, typename W, int R>
    __device__ void store(T* out, const int (&size)[2], int row, const W (&numbers)[R]) const {
        T* at = find(out, size, row, column);
#pragma unroll
        for (int r = 0; r < R; ++r, at += size[1]) {
            if (below(row + r, size[0])) *at = static_cast<T>(numbers[r]);
        }
    }
};

// A thread that owns windows: SIZE of them below each other, which see ROWS_SEEN × K inputs.
template <int K, int S> struct Windows {
    static constexpr int SIZE = TILE / S, ROWS_SEEN = (SIZE - 1) * S + K;

    template <typename T>
    static __device__ void see(
        const Sliding& w, const Part& part, const T* x, T outside, T (&seen)[ROWS_SEEN][K]) {
        const int row = part.strip * TILE - w.before[0], column = part.column * S - w.before[1];
        part.load(seen, x, w.size_in, row, column, outside);
    }
    template <typename T, typename W>
    static __device__ void write(const Sliding& w, const Part& part, T* out, const W (&results)[SIZE]) {
        part.store(out, w.size_out, part.strip * SIZE, results);
    }
};

// A thread that owns inputs: TILE of them below each other, and the windows that see them, LINES × WIDTH.
template <int K, int S> struct Inputs {
    static constexpr int BACK = (K - 1) / S, LINES = TILE / S + BACK, WIDTH = BACK + 1;

    // One number of each window; outside where there is none that sees the column.
    template <typename T, typename V>
    static __device__ void gather(
        const Sliding& w, const Part& part, const T* g, V outside, V (&given)[LINES][WIDTH]) {
        const int at = part.column + w.before[1], from = at < K ? 0 : (at - K) / S + 1;
        part.load(given, g, w.size_out, part.strip * (TILE / S) - BACK, at / S - BACK, outside, from);
    }
    // Through which row of its offsets a window of a line sees an input; it does not unless that is below K.
    static constexpr __device__ unsigned down(int line, int input) {
        return static_cast<unsigned>(input + (BACK - line) * S);
    }
    // Through which column of its offsets a window of the tile's column c sees the inputs.
    static __device__ int across(const Sliding& w, const Part& part, int c) {
        return (part.column + w.before[1]) % S + (BACK - c) * S;
    }
    template <typename T, typename W>
    static __device__ void write(const Sliding& w, const Part& part, T* out, const W (&sums)[TILE]) {
        part.store(out, w.size_in, part.strip * TILE - w.before[0], sums);
    }
};
