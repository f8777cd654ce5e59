// LRP's last step, the multiplication with the input: x·a, or x·a + y·b where both signs count.
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     x, a, y, b, out: count numbers, contiguous.  out may be any of them.
// Bounds     reads and writes 0 .. count-1 only.
// Reference  Ops.sum_of_products (onnxvis/ops/primitives.py) for one or two products.
#include "numbers.cuh"

template <typename T> __global__ void multiply(const T* x, const T* a, T* out, long long count) {
    typedef typename Wide<T>::type W;
    each_number<T>(count, {out}, [](W* made, W x, W a) { *made = x * a; }, x, a);
}

template <typename T>
__global__ void multiply_back(const T* x, const T* a, const T* y, const T* b, T* out, long long count) {
    typedef typename Wide<T>::type W;
    each_number<T>(count, {out}, [](W* made, W x, W a, W y, W b) { *made = x * a + y * b; }, x, a, y, b);
}
