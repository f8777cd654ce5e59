// Gates, on the way back: of a rectifier, in three rules, and of what is clipped on both sides.
//
//   GRADIENT   g where x > 0, else 0            (x: input or output of the rectifier)
//   DECONVNET  max(g, 0)                        (Zeiler & Fergus 2013; x is not read and may be null)
//   GUIDED     max(g, 0) where x > 0, else 0    (Springenberg et al. 2014)
//   between    g where low < x < high, else 0   (an infinite limit does not count)
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     g, x, out: count numbers, contiguous.  out may be g.
// Bounds     reads and writes 0 .. count-1 only.
// NaN        passes through max, and closes the gate where it is x, as NumPy's maximum and comparisons do.
// Reference  Ops.gate, Ops.positive and Ops.between (onnxvis/ops/primitives.py).
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

template <typename T>
__global__ void between(const T* g, const T* x, double low, double high, T* out, long long count) {
    typedef typename Wide<T>::type W;
    const W above = static_cast<W>(low), below = static_cast<W>(high);
    const bool bottomless = low == -1.0 / 0.0, topless = high == 1.0 / 0.0;
    each_number<T>(
        count, {out},
        [=](W* made, W value, W at) {  // without branches, which would double the loop
            *made = (bottomless | (at > above)) & (topless | (at < below)) ? value : W(0);
        },
        g, x);
}
