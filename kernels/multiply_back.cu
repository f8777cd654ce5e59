// LRP's last step, the multiplication with the input: x·a + y·b.
//
// Grid       count threads in all, one number each, in strides of the grid.
// Layout     x, a, y, b, out: count numbers, contiguous.  out may be any of them.
// Bounds     reads and writes 0 .. count-1 only.
// Reference  Ops.sum_of_products (onnxvis/ops/primitives.py) for two products.
#include "common.cuh"

template <typename T>
__global__ void multiply_back(const T* x, const T* a, const T* y, const T* b, T* out, long long count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(long long, i, count) {
        const W first = static_cast<W>(x[i]) * static_cast<W>(a[i]);
        out[i] = static_cast<T>(first + static_cast<W>(y[i]) * static_cast<W>(b[i]));
    }
}
