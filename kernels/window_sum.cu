// The sum over each window: the forward map of average pooling, of LRN's neighbourhoods, of counts.
//
// Grid       window_sum: count = planes × windows, one window each.
//            window_sum_fixed: count = planes × strips × columns, a strip of a column of windows each (tiles.cuh).
// Layout     x: planes × size_in, out: planes × size_out; planes = samples × channels; contiguous.
// Bounds     every read is checked against size_in; padding counts as 0.
// Reference  Ops.window_sum (onnxvis/ops/primitives.py).
#include "tiles.cuh"

template <typename T, typename I>
__global__ void window_sum(const T* x, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, i, count) {
        const Place<I> window(w, i);
        W sum = 0;
        each_seen(w, window, x, W(0), [&](I, W value) { sum += value; });
        out[i] = static_cast<T>(sum);
    }
}

template <typename T, int K, int S>
__global__ void window_sum_fixed(const T* x, T* out, Sliding w, int count) {
    typedef Windows<K, S> Tile;
    typedef typename Wide<T>::type W;
    GRID_STRIDE(int, n, count) {
        const Part part(w, n);
        T seen[Tile::ROWS_SEEN][K];
        Tile::see(w, part, x, T(0.0f), seen);
        W sums[Tile::SIZE] = {};
#pragma unroll
        for (int row = 0; row < Tile::ROWS_SEEN; ++row) {
            W sum = static_cast<W>(seen[row][0]);
#pragma unroll
            for (int k = 1; k < K; ++k) sum += static_cast<W>(seen[row][k]);
#pragma unroll
            for (int o = 0; o < Tile::SIZE; ++o) {
                if (row >= o * S && row < o * S + K) sums[o] += sum;
            }
        }
        Tile::write(w, part, out, sums);
    }
}
