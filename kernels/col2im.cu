// The adjoint of im2col: each input position gets the sum of the columns' numbers that were read from it.
//
// Grid       count = samples × channels × strips, one strip of inputs each (Strip, in windows.cuh), which gathers:
//            no atomics.
// Layout     columns: channels × offsets × samples × windows; x: samples × channels × size_in; contiguous.
// Bounds     every read is checked against size_out; inputs that no window sees get 0.
// Reference  Ops.conv_transpose (onnxvis/ops/primitives.py) with onnxvis/ops/device/convolution.py.
#include "windows.cuh"

// The offset through which window o, which sees position i, does so along one axis.
template <typename I> __device__ I offset(const Geometry<I>& w, int axis, I o, I i) {
    const I distance = i + w.before[axis] - o * w.strides[axis], dilation = w.dilations[axis];
    return dilation == 1 ? distance : distance / dilation;
}

template <typename T, typename I>
__global__ void col2im(const T* columns, T* x, Geometry<I> w, I channels, I samples, I count) {
    typedef typename Wide<T>::type W;
    const I width = samples * w.windows();
    GRID_STRIDE(I, n, count) {
        const Strip<I> strip(w, n);
        const I sample = strip.plane / channels, channel = strip.plane - sample * channels;
        const T* from = columns + channel * w.offsets() * width + sample * w.windows();
        const Span<I> a = reaching(w, 0, strip.depth), b = strip.reaching_rows(w), c = reaching(w, 2, strip.column);
        W sums[ROWS] = {};
#pragma unroll 1
        for (I o0 = a.first; o0 <= a.last; ++o0) {
            if (!sees(w, 0, o0, strip.depth)) continue;
            const I k0 = offset(w, 0, o0, strip.depth);
#pragma unroll 1
            for (I o1 = b.first; o1 <= b.last; ++o1) {
#pragma unroll 1
                for (I o2 = c.first; o2 <= c.last; ++o2) {
                    if (!sees(w, 2, o2, strip.column)) continue;
                    const I k2 = offset(w, 2, o2, strip.column), o = (o0 * w.size_out[1] + o1) * w.size_out[2] + o2;
#pragma unroll
                    for (int row = 0; row < ROWS; ++row) {
                        if (!sees(w, 1, o1, strip.row + row)) continue;
                        const I k1 = offset(w, 1, o1, strip.row + row);
                        sums[row] += static_cast<W>(from[((k0 * w.kernel[1] + k1) * w.kernel[2] + k2) * width + o]);
                    }
                }
            }
        }
        strip.write(w, x, sums);
    }
}
