// The adjoint of max pooling, in two passes: which input won each window, then what comes back to each input.
//
// Grid       max_first: count = planes × windows, one window each.
//            max_route: count = planes × inputs, one input position each, which gathers from the windows
//            that see it: no atomics, and the sum of a position has one fixed order.
// Layout     x, out: planes × size_in; g, first: planes × size_out; planes = samples × channels; contiguous.
//            first: the winning offset in the window, 0 .. kernel-1, int32.
// Bounds     every read is checked against size_in and size_out.
// Ties       the first maximum, row-major.  Padding never wins.  NaN neither wins nor is beaten, as in NumPy's
//            comparisons; a window without a number above −∞ is won by its first offset.
// Reference  Ops.max_route (onnxvis/ops/primitives.py); switches of Zeiler & Fergus 2013.
#include "common.cuh"

template <typename T, typename I>
__global__ void max_first(const T* x, int* first, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    const I windows = w.windows(), inputs = w.inputs();
    GRID_STRIDE(I, i, count) {
        const T* plane = x + i / windows * inputs;
        W highest = -static_cast<W>(1) / static_cast<W>(0);  // −∞
        int winner = 0;
        each_offset(w, i % windows, [&](I k, I at) {
            if (at < 0) return;
            const W value = static_cast<W>(plane[at]);
            if (value > highest) winner = static_cast<int>(k);
            if (value > highest || value != value) highest = value;
        });
        first[i] = winner;
    }
}

template <typename T, typename I>
__global__ void max_route(const T* g, const int* first, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    const I windows = w.windows(), inputs = w.inputs();
    GRID_STRIDE(I, i, count) {
        const I plane = i / inputs * windows;
        W sum = 0;
        each_window(w, i % inputs, [&](I k, I o) {
            if (first[plane + o] == k) sum += static_cast<W>(g[plane + o]);
        });
        out[i] = static_cast<T>(sum);
    }
}
