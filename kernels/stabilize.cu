// What LRP divides by, stab(z) = z + sign(z)·ε with sign(0) = +1, and the division itself, R / stab(z) or
// R / stab(z + b) with a number b for each channel; and the shares of both summands of z, x·R / stab(z) and
// y·R / stab(z).
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     r, z, x, y, out, of_x, of_y: count numbers, contiguous; for b samples × channels × positions.
//            An output may be an input; x may be y.  b: one number a channel.
// Bounds     reads and writes 0 .. count-1 only.
// Reference  Ops.stabilize, Ops.quotient and Ops.proportions (onnxvis/ops/primitives.py); Bach et al. 2015.
#include "windows.cuh"

template <typename W> __device__ W stab(W z, W epsilon) { return z + (z >= W(0) ? epsilon : -epsilon); }

template <typename T>
__global__ void stabilize(const T* z, double epsilon, T* out, long long count) {
    typedef typename Wide<T>::type W;
    const W small = static_cast<W>(epsilon);
    each_number<T>(count, {out}, [=](W* made, W z) { *made = stab(z, small); }, z);
}

template <typename T>
__global__ void quotient(const T* r, const T* z, double epsilon, T* out, long long count) {
    typedef typename Wide<T>::type W;
    const W small = static_cast<W>(epsilon);
    each_number<T>(count, {out}, [=](W* made, W r, W z) { *made = r / stab(z, small); }, r, z);
}

template <typename T, typename I>
__global__ void quotient_by_channel(
    const T* r, const T* z, const T* b, double epsilon, T* out, Divisor<I> positions, Divisor<I> channels, I count) {
    typedef typename Wide<T>::type W;
    const W small = static_cast<W>(epsilon);
    each_numbered<T>(
        count, {out},
        [=](W* made, long long i, W r, W z) {
            I channel = positions.quotient(static_cast<I>(i));
            channels.split(channel);
            *made = r / stab(z + static_cast<W>(b[channel]), small);
        },
        r, z);
}

template <typename T>
__global__ void proportions(
    const T* r, const T* z, const T* x, const T* y, double epsilon, T* of_x, T* of_y, long long count) {
    typedef typename Wide<T>::type W;
    const W small = static_cast<W>(epsilon);
    each_number<T>(
        count, {of_x, of_y},
        [=](W* made, W r, W z, W x, W y) {
            const W s = r / stab(z, small);
            made[0] = x * s;
            made[1] = y * s;
        },
        r, z, x, y);
}
