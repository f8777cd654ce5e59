// The adjoint of window_sum: each input position gets the sum of the windows that see it.
//
// Grid       count = planes × strips, one strip of inputs each (Strip, in windows.cuh), which gathers: no atomics.
// Layout     g: planes × size_out, out: planes × size_in; planes = samples × channels; contiguous.
// Bounds     every read is checked against size_out; inputs that no window sees get 0.
// Reference  Ops.window_spread (onnxvis/ops/primitives.py).
#include "windows.cuh"

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
