// The sum over each window: the forward map of average pooling, of LRN's neighbourhoods, of counts.
//
// Grid       count = planes × windows, one window each.
// Layout     x: planes × size_in, out: planes × size_out; planes = samples × channels; contiguous.
// Bounds     every read is checked against size_in; padding counts as 0.
// Reference  Ops.window_sum (onnxvis/ops/primitives.py).
#include "common.cuh"

template <typename T, typename I>
__global__ void window_sum(const T* x, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    const I windows = w.windows(), inputs = w.inputs();
    GRID_STRIDE(I, i, count) {
        const T* plane = x + i / windows * inputs;
        W sum = 0;
        each_offset(w, i % windows, [&](I, I at) {
            if (at >= 0) sum += static_cast<W>(plane[at]);
        });
        out[i] = static_cast<T>(sum);
    }
}
