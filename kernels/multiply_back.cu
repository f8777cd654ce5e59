// LRP's last step, the multiplication with the input: x·a, or x·a + y·b where both signs count.
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     x, a, y, b, out: count numbers, contiguous.  out may be any of them.
//            stacked: samples × a and b × part numbers, where x, y and out are samples × part.
// Bounds     reads and writes 0 .. count-1 only, of stacked 0 .. 2·count-1.
// Reference  Ops.sum_of_products (onnxvis/ops/primitives.py) for one or two products, and
//            Ops.conv_transpose_product for two pairs.
#include "windows.cuh"

template <typename T> __global__ void multiply(const T* x, const T* a, T* out, long long count) {
    typedef typename Wide<T>::type W;
    each_number<T>(count, {out}, [](W* made, W x, W a) { *made = x * a; }, x, a);
}

template <typename T>
__global__ void multiply_back(const T* x, const T* a, const T* y, const T* b, T* out, long long count) {
    typedef typename Wide<T>::type W;
    each_number<T>(count, {out}, [](W* made, W x, W a, W y, W b) { *made = x * a + y * b; }, x, a, y, b);
}

template <typename T, typename I>
__global__ void multiply_stacked(const T* x, const T* y, const T* stacked, T* out, Divisor<I> part, I count) {
    typedef typename Wide<T>::type W;
    typedef Pack<T> P;
    const auto add = [](W* made, long long, W x, W a, W y, W b) { *made = x * a + y * b; };
    const bool packed = start_at_packs(x, y, stacked, out) && part.divisor % P::SIZE == 0;
    const I packs = packed ? count / P::SIZE : 0, single = packed ? 0 : count, apart = part.divisor / P::SIZE;
    GRID_STRIDE(I, p, packs) {
        const P* a = reinterpret_cast<const P*>(stacked) + p + part.quotient(p * P::SIZE) * apart;
        P result[1];
        each_of_pack(
            result, 0, add, reinterpret_cast<const P*>(x)[p], a[0], reinterpret_cast<const P*>(y)[p], a[apart]);
        reinterpret_cast<P*>(out)[p] = result[0];
    }
    GRID_STRIDE(I, i, single) {
        const T *a = stacked + i + part.quotient(i) * part.divisor, *b = a + part.divisor;
        W made;
        add(&made, i, static_cast<W>(x[i]), static_cast<W>(*a), static_cast<W>(y[i]), static_cast<W>(*b));
        out[i] = static_cast<T>(made);
    }
}
