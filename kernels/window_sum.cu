// The sum over each window: the forward map of average pooling, of LRN's neighbourhoods, of counts.
//
// Grid       count = planes × windows, one window each.
// Layout     x: planes × size_in, out: planes × size_out; planes = samples × channels; contiguous.
// Bounds     every read is checked against size_in; padding counts as 0.
// Reference  Ops.window_sum (onnxvis/ops/primitives.py).
#include "windows.cuh"

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
