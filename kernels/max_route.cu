// The adjoint of max pooling, in two passes: which input won each window, then what comes back to each input.
//
// Grid       max_first: count = planes × windows, one window each.
//            max_route: count = planes × strips, one strip of inputs each (Strip, in windows.cuh), which gathers
//            from the windows that reach it: no atomics, and the sum of an input has one fixed order.
// Layout     x, out: planes × size_in; g, first: planes × size_out; planes = samples × channels; contiguous.
//            first: the winner's place in x; negative where padding wins.
// Bounds     every read is checked against size_in and size_out.
// Ties       the first maximum, row-major.  Padding never wins.  NaN neither wins nor is beaten, as in NumPy's
//            comparisons; a window without a number above −∞ is won by its first offset, padding or not.
// Reference  Ops.max_route (onnxvis/ops/primitives.py); switches of Zeiler & Fergus 2013.
#include "windows.cuh"

template <typename T, typename I>
__global__ void max_first(const T* x, I* first, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, i, count) {
        const Place<I> window(w, i);
        const W lowest = -static_cast<W>(1) / static_cast<W>(0);  // −∞
        W highest = lowest;
        I winner = -1;
        each_seen(w, window, x, lowest, [&](I at, W value) {
            if (value > highest) winner = at;
            if (value > highest || value != value) highest = value;
        });
        first[i] = winner < 0 ? window.first_seen(w) : winner;
    }
}

template <typename T, typename I>
__global__ void max_route(const T* g, const I* first, T* out, Geometry<I> w, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, n, count) {
        const Strip<I> strip(w, n);
        const Span<I> a = reaching(w, 0, strip.depth), b = strip.reaching_rows(w), c = reaching(w, 2, strip.column);
        const I start = strip.start(w);
        W sums[ROWS] = {};
#pragma unroll 1
        for (I o0 = a.first; o0 <= a.last; ++o0) {
#pragma unroll 1
            for (I o1 = b.first; o1 <= b.last; ++o1) {
                const I line = ((strip.plane * w.size_out[0] + o0) * w.size_out[1] + o1) * w.size_out[2];
#pragma unroll 1
                for (I o = line + c.first; o <= line + c.last; ++o) {
                    const I won = first[o] - start;
                    const W value = static_cast<W>(g[o]);
#pragma unroll
                    for (int row = 0; row < ROWS; ++row) {
                        if (won == row * w.size_in[2]) sums[row] += value;
                    }
                }
            }
        }
        strip.write(w, out, sums);
    }
}
