// The adjoint of window_sum: each input position gets the sum of the windows that see it.
//
// Grid       count = planes × inputs, one input position each, which gathers: no atomics.
// Layout     g: planes × size_out, out: planes × size_in; planes = samples × channels; contiguous.
// Bounds     every read is checked against size_out; inputs that no window sees get 0.
// Reference  Ops.window_spread (onnxvis/ops/primitives.py).
#include "common.cuh"

template <typename T, typename I>
__global__ void window_spread(const T* g, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    const I windows = w.windows(), inputs = w.inputs();
    GRID_STRIDE(I, i, count) {
        const T* plane = g + i / inputs * windows;
        W sum = 0;
        each_window(w, i % inputs, [&](I, I o) { sum += static_cast<W>(plane[o]); });
        out[i] = static_cast<T>(sum);
    }
}
