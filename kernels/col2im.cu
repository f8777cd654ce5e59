// The adjoint of im2col: each input position gets the sum of the columns' numbers that were read from it.
//
// Grid       count = samples × channels × inputs, one input position each, which gathers: no atomics.
// Layout     columns: channels × offsets × samples × windows; x: samples × channels × size_in; contiguous.
// Bounds     every read is checked against size_out; inputs that no window sees get 0.
// Reference  Ops.conv_transpose (onnxvis/ops/primitives.py) with onnxvis/ops/device/convolution.py.
#include "common.cuh"

template <typename T, typename I>
__global__ void col2im(const T* columns, T* x, Geometry<I> w, I channels, I samples, I count) {
    typedef typename Wide<T>::type W;
    const I offsets = w.offsets(), windows = w.windows(), inputs = w.inputs(), width = samples * windows;
    GRID_STRIDE(I, i, count) {
        const I plane = i / inputs, sample = plane / channels, channel = plane % channels;
        const T* from = columns + channel * offsets * width + sample * windows;
        W sum = 0;
        each_window(w, i % inputs, [&](I k, I o) { sum += static_cast<W>(from[k * width + o]); });
        x[i] = static_cast<T>(sum);
    }
}
