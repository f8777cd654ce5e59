// The windows that nets have most: K × K offsets, S apart along both of the two last axes, without dilation.
//
// Memory    A thread goes through a strip of TILE inputs or the windows among them (Part), in one column or a few, so
//           that neighbouring threads load and store neighbouring numbers however rows are aligned.  What it needs is
//           a tile of known size, on its way from memory as a whole before the first number is used (load).
// Bounds    0 <= before < K (fixed_windows in onnxvis/ops/device/geometry.py); sizes are any.
#pragma once
#include "windows.cuh"

constexpr int TILE = 8;  // a multiple of every S²

// The last two axes; what precedes them counts as planes.  All planes' rows can be counted by an int.
struct Sliding {
    int before[2], size_in[2], size_out[2];
    Divisor<int> by_column, by_strip;  // columns, and strips of rows, in a plane
};

// A thread's column (or columns), and which strip of it, from the thread's number.
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
    // tile[r][c] = what lies in row + r and column + c; outside beyond the plane.
    template <typename T, typename V, int R, int C>
    __device__ void load(V (&tile)[R][C], const T* x, const int (&size)[2], int row, int column, V outside) const {
        const T* at = find(x, size, row, column);
#pragma unroll
        for (int r = 0; r < R; ++r, at += size[1]) {
#pragma unroll
            for (int c = 0; c < C; ++c) {
                tile[r][c] = outside;
                if (below(column + c, size[1]) && below(row + r, size[0])) tile[r][c] = at[c];
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

// Neighbours in a row, which are stored at once.
template <typename T, int C> struct alignas(C * sizeof(T)) Neighbours {
    T numbers[C];
};

// A thread that owns inputs, HIGH of them below each other in each of C columns, of which rows are a multiple; and the
// windows that see them, LINES × WIDTH.
template <int K, int S, int C> struct Inputs {
    static constexpr int HIGH = TILE / S, BACK = (K - 1) / S, LINES = HIGH / S + BACK, WIDTH = (K + C - 2) / S + 1;

    int first;  // column of windows
    // Through which column of its offsets a window sees a column of inputs; it does not unless it is below K.
    unsigned across[WIDTH][C];

    __device__ Inputs(const Sliding& w, const Part& part) {
        const int at = part.column * C + w.before[1];
        first = (at + C - 1) / S - (WIDTH - 1);
#pragma unroll
        for (int c = 0; c < WIDTH; ++c) {
#pragma unroll
            for (int j = 0; j < C; ++j) across[c][j] = static_cast<unsigned>(at + j - (first + c) * S);
        }
    }
    // One number of each window; outside where there is none.
    template <typename T, typename V>
    __device__ void gather(const Sliding& w, const Part& part, const T* g, V outside, V (&given)[LINES][WIDTH]) const {
        part.load(given, g, w.size_out, part.strip * (HIGH / S) - BACK, first, outside);
    }
    // Through which row of its offsets a window of a line sees an input; it does not unless it is below K.
    static constexpr __device__ unsigned down(int line, int input) {
        return static_cast<unsigned>(input + (BACK - line) * S);
    }
    template <typename T, typename W>
    static __device__ void write(const Sliding& w, const Part& part, T* out, const W (&sums)[HIGH][C]) {
        const int row = part.strip * HIGH - w.before[0];
        T* at = part.find(out, w.size_in, row, part.column * C);
#pragma unroll
        for (int i = 0; i < HIGH; ++i, at += w.size_in[1]) {
            Neighbours<T, C> made;
#pragma unroll
            for (int j = 0; j < C; ++j) made.numbers[j] = static_cast<T>(sums[i][j]);
            if (below(row + i, w.size_in[0])) *reinterpret_cast<Neighbours<T, C>*>(at) = made;
        }
    }
};
