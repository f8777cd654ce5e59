// The windows that nets have most: K × K offsets, S apart along both of the two last axes, without dilation.
//
// Memory    A thread goes through TILE rows of the input in one column (Part), so that neighbouring threads load and
//           store neighbouring numbers however rows are aligned.  What it needs is a tile of known size, on its way
//           from memory as a whole before the first number is used (load).
// Bounds    0 <= before < K (fixed_windows in onnxvis/ops/device/geometry.py); sizes are any.
#pragma once
#include "windows.cuh"

constexpr int TILE = 8;  // a multiple of every S

// The last two axes; what precedes them counts as planes.
struct Sliding {
    int before[2], size_in[2], size_out[2];
    Divisor<int> by_column, by_strip;  // columns, and strips of rows, in a plane

    __device__ long long inputs() const { return static_cast<long long>(size_in[0]) * size_in[1]; }
    __device__ long long windows() const { return static_cast<long long>(size_out[0]) * size_out[1]; }
};

// A thread's column, and which strip of it, from the thread's number.
struct Part {
    int column, strip, plane;

    __device__ Part(const Sliding& w, int number) {
        strip = w.by_column.split(column = number);
        plane = w.by_strip.split(strip);
    }
};

// tile[r][c] = what lies in row + r and column + c of a plane; outside where it does not reach, or left of ``from``.
template <typename T, int R, int C>
__device__ void load(
    T (&tile)[R][C], const T* plane, const int (&size)[2], int row, int column, T outside, int from = 0) {
    const T* at = plane + (static_cast<long long>(row) * size[1] + column);
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
__device__ void store(T* plane, const int (&size)[2], int row, int column, const W (&numbers)[R]) {
    T* at = plane + (static_cast<long long>(row) * size[1] + column);
#pragma unroll
    for (int r = 0; r < R; ++r, at += size[1]) {
        if (below(row + r, size[0])) *at = static_cast<T>(numbers[r]);
    }
}

// What a thread that owns windows sees: SIZE of them below each other.
template <typename T, int K, int S> struct Windows {
    static constexpr int SIZE = TILE / S, ROWS_SEEN = (SIZE - 1) * S + K;
    T seen[ROWS_SEEN][K];

    __device__ Windows(const Sliding& w, const Part& part, const T* x, T outside) {
        load(seen, x + part.plane * w.inputs(), w.size_in, part.strip * TILE - w.before[0],
             part.column * S - w.before[1], outside);
    }
    template <typename R, typename W>
    static __device__ void write(const Sliding& w, const Part& part, R* out, const W (&results)[SIZE]) {
        store(out + part.plane * w.windows(), w.size_out, part.strip * SIZE, part.column, results);
    }
};

// A thread that owns inputs, TILE of them below each other, and the windows that see them: a tile of LINES × WIDTH.
template <int K, int S> struct Inputs {
    static constexpr int BACK = (K - 1) / S, LINES = TILE / S + BACK, WIDTH = BACK + 1;
    long long plane;
    int row, column, line, first, from;

    __device__ Inputs(const Sliding& w, const Part& part)
        : plane(part.plane), row(part.strip * TILE - w.before[0]), column(part.column),
          line(part.strip * (TILE / S) - BACK) {
        const int at = column + w.before[1];
        first = at / S - BACK;
        from = at < K ? 0 : (at - K) / S + 1;
    }
    // One number of each window; outside where there is none that sees the column.
    template <typename T>
    __device__ void gather(const Sliding& w, const T* g, T outside, T (&given)[LINES][WIDTH]) const {
        load(given, g + plane * w.windows(), w.size_out, line, first, outside, from);
    }
    // Through which row of its offsets a window of a line sees an input; it does not unless that is below K.
    static constexpr __device__ unsigned down(int line, int input) {
        return static_cast<unsigned>(input + (BACK - line) * S);
    }
    // Through which column of its offsets a window of the tile's column c sees the inputs.
    __device__ int across(const Sliding& w, int c) const { return column + w.before[1] - (first + c) * S; }
    template <typename T, typename W> __device__ void write(const Sliding& w, T* out, const W (&sums)[TILE]) const {
        store(out + plane * w.inputs(), w.size_in, row, column, sums);
    }
};
