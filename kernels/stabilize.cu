// What LRP divides by, stab(z) = z + sign(z)·ε with sign(0) = +1, and the division itself, R / stab(z).
//
// Grid       count numbers, 16 bytes of them a thread, in strides of the grid.
// Layout     r, z, out: count numbers, contiguous.  out may be r or z.
// Bounds     reads and writes 0 .. count-1 only.
// Reference  Ops.stabilize and Ops.quotient (onnxvis/ops/primitives.py); Bach et al. 2015.
#include "numbers.cuh"

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
