// What each window sees, as columns of a matrix: convolution is then one matrix product (Chellapilla 2006).
//
// Grid       count = samples × channels × positions, one window of one plane each; it writes one number an
//            offset, and neighbouring threads write neighbouring numbers.
// Layout     x: samples × channels × size_in; columns: channels × offsets × samples × positions; contiguous.
//            Positions are the windows first .. first + positions - 1 in row-major order, so that a large
//            layer can be done in parts.
// Bounds     every read is checked against size_in; padding is written as 0.
// Reference  Ops.conv (onnxvis/ops/primitives.py) with onnxvis/ops/device/convolution.py.
#include "common.cuh"

template <typename T, typename I>
__global__ void im2col(const T* x, T* columns, Geometry<I> w, I channels, I samples, I first, I positions, I count) {
    const I offsets = w.offsets(), inputs = w.inputs(), width = samples * positions;
    GRID_STRIDE(I, i, count) {
        const I plane = i / positions, position = i % positions;
        const I sample = plane / channels, channel = plane % channels;
        const T* from = x + plane * inputs;
        T* to = columns + channel * offsets * width + sample * positions + position;
        each_offset(w, first + position, [&](I k, I at) { to[k * width] = at < 0 ? T(0.0f) : from[at]; });
    }
}
