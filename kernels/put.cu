// Rows of a matrix added to the rows that an index names; the adjoint of taking rows.
//
// Grid       count = rows of the result × width, one number each, which gathers from the rows that end there:
//            no atomics, and the order of each sum is the order of the rows.
// Layout     g: K × width, out: rows × width, contiguous.  order: the K rows of g, those of one target next
//            to each other and in their old order (a stable sort).  starts: rows + 1 positions in order;
//            target r gets g[order[starts[r]]] .. g[order[starts[r + 1] - 1]].
// Bounds     reads what order and starts name: the launch code made them from indices that it has checked.
// Reference  Ops.put (onnxvis/ops/primitives.py).
#include "numbers.cuh"

template <typename T, typename I>
__global__ void put(const T* g, const long long* order, const long long* starts, T* out, I width, I count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(I, i, count) {
        const I row = i / width, column = i % width;
        W sum = 0;
        for (long long n = starts[row]; n < starts[row + 1]; ++n) {
            sum += static_cast<W>(g[static_cast<I>(order[n]) * width + column]);
        }
        out[i] = static_cast<T>(sum);
    }
}
