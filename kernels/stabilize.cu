// What LRP divides by, stab(z) = z + sign(z)·ε with sign(0) = +1, and the division itself, R / stab(z).
//
// Grid       count threads in all, one number each, in strides of the grid.
// Layout     r, z, out: count numbers, contiguous.  out may be r or z.
// Bounds     reads and writes 0 .. count-1 only.
// Reference  Ops.stabilize and Ops.quotient (onnxvis/ops/primitives.py); Bach et al. 2015.
#include "common.cuh"

template <typename W>
__device__ W stab(W z, double epsilon) {
    return z + (z >= W(0) ? static_cast<W>(epsilon) : static_cast<W>(-epsilon));
}

template <typename T>
__global__ void stabilize(const T* z, double epsilon, T* out, long long count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(long long, i, count) { out[i] = static_cast<T>(stab(static_cast<W>(z[i]), epsilon)); }
}

template <typename T>
__global__ void quotient(const T* r, const T* z, double epsilon, T* out, long long count) {
    typedef typename Wide<T>::type W;
    GRID_STRIDE(long long, i, count) {
        out[i] = static_cast<T>(static_cast<W>(r[i]) / stab(static_cast<W>(z[i]), epsilon));
    }
}
