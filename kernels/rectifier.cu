// The gate of a rectifier, on the way back, in three rules.
//
//   GRADIENT   g where x > 0, else 0            (x: input or output of the rectifier)
//   DECONVNET  max(g, 0)                        (Zeiler & Fergus 2013; x is not read and may be null)
//   GUIDED     max(g, 0) where x > 0, else 0    (Springenberg et al. 2014)
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     g, x, out: count numbers, contiguous.  out may be g.
// Bounds     reads and writes 0 .. count-1 only.
// NaN        passes through max, and closes the gate where it is x, as NumPy's maximum and comparisons do.
// Reference  Ops.gate and Ops.positive (onnxvis/ops/primitives.py).
#include "numbers.cuh"

enum Rule { GRADIENT, DECONVNET, GUIDED };

template <typename T, int RULE>
__global__ void rectify(const T* g, const T* x, T* out, long long count) {
    typedef typename Wide<T>::type W;
    if constexpr (RULE == DECONVNET) {
        each_number<T>(count, {out}, [](W* made, W value) { *made = value <= W(0) ? W(0) : value; }, g);
    } else {
        each_number<T>(
            count, {out},
            [](W* made, W value, W at) {
                if (RULE == GUIDED && value <= W(0)) value = W(0);
                *made = at > W(0) ? value : W(0);
            },
            g, x);
    }
}
