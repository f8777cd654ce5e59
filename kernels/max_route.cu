// The adjoint of max pooling, in two passes: which input won each window, then what comes back to each input.
//
// Grid       max_first: count = planes × windows, one window each.
//            max_route: count = planes × strips, one strip of inputs each (Strip, in windows.cuh), which gathers
//            from the windows that reach it: no atomics, and the sum of an input has one fixed order.
//            max_first_fixed, max_route_fixed: count = planes × strips × columns, a strip each, of a column of
//            windows and of C columns of inputs (Windows, Inputs in tiles.cuh).
// Layout     x, out: planes × size_in; g, first: planes × size_out; planes = samples × channels; contiguous.
//            first: the winner's place in x, negative where padding wins; in the fixed kernels the offset, one byte,
//            through which its window sees it.
// Bounds     every read is checked against size_in and size_out.
// Ties       the first maximum, row-major.  Padding never wins.  NaN neither wins nor is beaten, as in NumPy's
//            comparisons; a window without a number above −∞ is won by its first offset, padding or not.
// Reference  Ops.max_route (onnxvis/ops/primitives.py); switches of Zeiler & Fergus 2013.
#include "tiles.cuh"

// −∞, which the compiler makes: it would leave a division by 0 to the GPU.
template <typename W> __device__ W lowest() {
    const double large = 1e300;
    return static_cast<W>(-large * large);
}

template <typename T, typename I>
__global__ void max_first(const T* x, I* first, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, i, count) {
        const Place<I> window(w, i);
        W highest = lowest<W>();
        I winner = -1;
        each_seen(w, window, x, lowest<W>(), [&](I at, W value) {
            if (value > highest) winner = at;
            if (value > highest || value != value) highest = value;
        });
        first[i] = winner < 0 ? window.first_seen(w) : winner;
    }
}

template <typename T, typename I>
__global__ void max_route(const T* g, const I* first, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, n, count) {
        const Strip<I> strip(w, n);
        const Span<I> a = reaching(w, 0, strip.depth), b = strip.reaching_rows(w), c = reaching(w, 2, strip.column);
        const I start = strip.start(w);
        W sums[ROWS] = {};
#pragma unroll 1
        for (I o0 = a.first; o0 <= a.last; ++o0) {
#pragma unroll 1
            for (I o1 = b.first; o1 <= b.last; ++o1) {
                const I line = ((strip.plane * w.size_out[0] + o0) * w.size_out[1] + o1) * w.size_out[2];
#pragma unroll 1
                for (I o = line + c.first; o <= line + c.last; ++o) {
                    const I won = first[o] - start;
                    const W value = static_cast<W>(g[o]);
#pragma unroll
                    for (int row = 0; row < ROWS; ++row) {
                        if (won == row * w.size_in[2]) sums[row] += value;
                    }
                }
            }
        }
        strip.write(w, out, sums);
    }
}

// NaN where either is.
template <typename W> __device__ W larger(W a, W b) { return a > b || a != a ? a : b; }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <> __device__ float larger(float a, float b) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
}
#endif

// The winner of some numbers in a row.
template <typename W> struct Winner {
    W number, highest;  // its own; NaN from the first NaN on
    int at;

    // Against those behind.
    __device__ void meet(W next_number, W next_highest, int next_at) {
        if (next_number > highest) {
            number = next_number;
            at = next_at;
        }
        highest = larger(next_highest, highest);
    }
};

template <typename T, int K, int S>
__global__ void max_first_fixed(const T* x, unsigned char* first, Sliding w, int count) {
    typedef Windows<K, S> Tile;
    typedef typename Wide<T>::type W;
    GRID_STRIDE(int, n, count) {
        const Part part(w, n);
        T seen[Tile::ROWS_SEEN][K];
        Tile::see(w, part, x, static_cast<T>(lowest<W>()), seen);
        Winner<W> windows[Tile::SIZE];
#pragma unroll
        for (int row = 0; row < Tile::ROWS_SEEN; ++row) {
            const W start = static_cast<W>(seen[row][0]);
            Winner<W> line = {start, start, 0};
#pragma unroll
            for (int k = 1; k < K; ++k) {
                const W value = static_cast<W>(seen[row][k]);
                line.meet(value, value, k);
            }
#pragma unroll
            for (int o = 0; o < Tile::SIZE; ++o) {
                const int k = row - o * S;
                if (k == 0) windows[o] = line;
                if (k > 0 && k < K) windows[o].meet(line.number, line.highest, k * K + line.at);
            }
        }
        int offsets[Tile::SIZE];
#pragma unroll
        for (int o = 0; o < Tile::SIZE; ++o) offsets[o] = windows[o].at;
        Tile::write(w, part, first, offsets);
    }
}

template <typename T, int K, int S, int C>
__global__ void max_route_fixed(const T* g, const unsigned char* first, T* out, Sliding w, int count) {
    typedef Inputs<K, S, C> Tile;
    typedef typename Wide<T>::type W;
    GRID_STRIDE(int, n, count) {
        const Part part(w, n);
        const Tile tile(w, part);
        T given[Tile::LINES][Tile::WIDTH];
        int winners[Tile::LINES][Tile::WIDTH];
        tile.gather(w, part, first, 0, winners);  // where there is none, g is 0
        tile.gather(w, part, g, T(0.0f), given);
        W sums[Tile::HIGH][C] = {};
#pragma unroll
        for (int line = 0; line < Tile::LINES; ++line) {
#pragma unroll
            for (int c = 0; c < Tile::WIDTH; ++c) {
                const W value = static_cast<W>(given[line][c]);
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    const unsigned across = tile.across[c][j];
#pragma unroll
                    for (int i = 0; i < Tile::HIGH; ++i) {
                        const unsigned k = Tile::down(line, i);
                        const bool won = across < K && static_cast<unsigned>(winners[line][c]) == k * K + across;
                        if (k < K && won) sums[i][j] += value;
                    }
                }
            }
        }
        Tile::write(w, part, out, sums);
    }
}
