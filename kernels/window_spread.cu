// The adjoint of window_sum: each input position gets the sum of the windows that see it.
//
// Grid       window_spread: count = planes × strips, one strip of inputs each (Strip, in windows.cuh).
//            window_spread_fixed: count = planes × strips × columns / C, likewise (Inputs, in tiles.cuh).
//            Both gather: no atomics.
// Layout     g: planes × size_out, out: planes × size_in; planes = samples × channels; contiguous.
// Bounds     every read is checked against size_out; inputs that no window sees get 0.
// Reference  Ops.window_spread (onnxvis/ops/primitives.py).
#include "tiles.cuh"

template <typename T, typename I>
__global__ void window_spread(const T* g, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, n, count) {
        const Strip<I> strip(w, n);
        const Span<I> a = reaching(w, 0, strip.depth), b = strip.reaching_rows(w), c = reaching(w, 2, strip.column);
        W sums[ROWS] = {};
#pragma unroll 1
        for (I o0 = a.first; o0 <= a.last; ++o0) {
            if (!sees(w, 0, o0, strip.depth)) continue;
#pragma unroll 1
            for (I o1 = b.first; o1 <= b.last; ++o1) {
                const I line = ((strip.plane * w.size_out[0] + o0) * w.size_out[1] + o1) * w.size_out[2];
                W sum = 0;
#pragma unroll 1
                for (I o2 = c.first; o2 <= c.last; ++o2) {
                    if (w.dilations[2] == 1 || sees(w, 2, o2, strip.column)) sum += static_cast<W>(g[line + o2]);
                }
#pragma unroll
                for (int row = 0; row < ROWS; ++row) {
                    if (sees(w, 1, o1, strip.row + row)) sums[row] += sum;
                }
            }
        }
        strip.write(w, out, sums);
    }
}

template <typename T, int K, int S, int C>
__global__ void window_spread_fixed(const T* g, T* out, Sliding w, int count) {
    typedef Inputs<K, S, C> Tile;
    typedef typename Wide<T>::type W;
    GRID_STRIDE(int, n, count) {
        const Part part(w, n);
        const Tile tile(w, part);
        T given[Tile::LINES][Tile::WIDTH];
        tile.gather(w, part, g, T(0.0f), given);
        W sums[Tile::HIGH][C] = {};
#pragma unroll
        for (int line = 0; line < Tile::LINES; ++line) {
#pragma unroll
            for (int j = 0; j < C; ++j) {
                W sum = 0;
#pragma unroll
                for (int c = 0; c < Tile::WIDTH; ++c) {
                    if (tile.across[c][j] < K) sum += static_cast<W>(given[line][c]);
                }
#pragma unroll
                for (int i = 0; i < Tile::HIGH; ++i) {
                    if (Tile::down(line, i) < K) sums[i][j] += sum;
                }
            }
        }
        Tile::write(w, part, out, sums);
    }
}
