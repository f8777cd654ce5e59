// Positive and negative part in one pass over memory: x⁺ = max(x, 0), x⁻ = min(x, 0).
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     x, positive, negative: count numbers, contiguous.
// Bounds     reads and writes 0 .. count-1 only.
// NaN        is NaN in both parts, as in NumPy's maximum and minimum.
// Reference  Ops.split (onnxvis/ops/primitives.py).
#include "numbers.cuh"

template <typename T>
__global__ void split(const T* x, T* positive, T* negative, long long count) {
    typedef typename Wide<T>::type W;
    each_number<T>(
        count, {positive, negative},
        [](W* made, W value) {
            made[0] = value <= W(0) ? W(0) : value;
            made[1] = value >= W(0) ? W(0) : value;
        },
        x);
}
