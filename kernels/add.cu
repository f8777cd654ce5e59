// What arrives at a tensor from two sides: x + y.
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     x, y, out: count numbers, contiguous.  out may be either.
// Bounds     reads and writes 0 .. count-1 only.
// Reference  Ops.total (onnxvis/ops/primitives.py) for two arrays.
#include "numbers.cuh"

template <typename T> __global__ void add(const T* x, const T* y, T* out, long long count) {
    typedef typename Wide<T>::type W;
    each_number<T>(count, {out}, [](W* made, W x, W y) { *made = x + y; }, x, y);
}
