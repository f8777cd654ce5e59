// What each window sees, as columns of a matrix: convolution is then one matrix product (Chellapilla 2006).
//
// Grid       count = samples × channels × positions, one window of one plane each; it writes one number an
//            offset, and neighbouring threads write neighbouring numbers.
// Layout     x: samples × channels × size_in; columns: channels × offsets × samples × positions; contiguous.
//            Positions are the windows first .. first + positions - 1 in row-major order, so that a large
//            layer can be done in parts.
// Bounds     every read is checked against size_in; padding is written as 0.
// Reference  Ops.conv (onnxvis/ops/primitives.py) with onnxvis/ops/device/convolution.py.
#include "windows.cuh"

template <typename T, typename I>
__global__ void im2col(const T* x, T* columns, Geometry<I> w, I channels, I samples, I first, Divisor<I> positions,
                       I count) {
    const I width = samples * positions.divisor;
    GRID_STRIDE(I, i, count) {
        I position = i;
        const I plane = positions.split(position), sample = plane / channels, channel = plane - sample * channels;
        const T* from = x + plane * w.inputs();
        T* to = columns + channel * w.offsets() * width + sample * positions.divisor + position;
        const Place<I> window(w, first + position);
        const I start = window.at[2] * w.strides[2] - w.before[2];
        for (I k0 = 0; k0 < w.kernel[0]; ++k0) {
            const I i0 = window.at[0] * w.strides[0] + k0 * w.dilations[0] - w.before[0];
            for (I k1 = 0; k1 < w.kernel[1]; ++k1) {
                const I i1 = window.at[1] * w.strides[1] + k1 * w.dilations[1] - w.before[1];
                const bool seen = i0 >= 0 && i0 < w.size_in[0] && i1 >= 0 && i1 < w.size_in[1];
                const I row = seen ? (i0 * w.size_in[1] + i1) * w.size_in[2] : I(0);
                for (I k2 = 0; k2 < w.kernel[2]; ++k2, to += width) {
                    const I i2 = start + k2 * w.dilations[2];
                    *to = seen && i2 >= 0 && i2 < w.size_in[2] ? from[row + i2] : T(0.0f);
                }
            }
        }
    }
}
