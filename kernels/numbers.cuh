// What every kernel shares: number types, the loop over a grid, and going through arrays number by number.
//
// Needs no header: NVRTC compiles it as it stands.  Under g++ the tests put a shim in front that defines
// the CUDA words (tests/kernels/shim.h), so that the same source runs on the CPU.
//
// Numbers   T is float, double, or Half (float16 in memory, float32 in registers).
// Layout    every array is contiguous and row-major; the launch code copies views before it passes them.
// Grid      one axis, any size: each kernel walks 0 .. count-1 in strides of the whole grid, so that an
//           empty count and a grid smaller than the count are both right.
// Memory    where neighbours are computed alike, a thread moves 16 bytes at once (each_number).
#pragma once

// ---- numbers ----------------------------------------------------------------------------------------

struct Half {
    unsigned short bits;
    Half() = default;
#ifdef __CUDACC__
    __device__ explicit Half(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
    __device__ operator float() const {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
#else
    explicit Half(float value) : bits(shim_half(value)) {}
    operator float() const { return shim_float(bits); }
#endif
};

// What numbers of type T are computed and summed in.
template <typename T> struct Wide { typedef T type; };
template <> struct Wide<Half> { typedef float type; };

// A loop over 0 .. count-1 that the whole grid shares.
#define GRID_STRIDE(I, i, count)                                                           \
    for (I i = static_cast<I>(blockIdx.x) * static_cast<I>(blockDim.x) + static_cast<I>(threadIdx.x); \
         i < count; i += static_cast<I>(gridDim.x) * static_cast<I>(blockDim.x))

// ---- number by number -------------------------------------------------------------------------------

// What one thread loads and stores at once.
template <typename T> struct alignas(16) Pack {
    static constexpr int SIZE = 16 / sizeof(T);
    T at[SIZE];
};

template <typename... P> __device__ bool start_at_packs(const P*... arrays) {
    return ((reinterpret_cast<unsigned long long>(arrays) | ...) & 15) == 0;
}

// compute for each number of the packs, the first of which is number ``first``; what it makes ends up in one pack
// for each result.
template <typename T, int RESULTS, typename Compute, typename... Packs>
__device__ void each_of_pack(Pack<T> (&results)[RESULTS], long long first, Compute compute, Packs... given) {
    typedef typename Wide<T>::type W;
#pragma unroll
    for (int j = 0; j < Pack<T>::SIZE; ++j) {
        W made[RESULTS];
        compute(made, first + j, static_cast<W>(given.at[j])...);
#pragma unroll
        for (int r = 0; r < RESULTS; ++r) results[r].at[j] = static_cast<T>(made[r]);
    }
}

// compute(made, i, in[0][i], in[1][i], ..) for each i below count, and out[r][i] = made[r] for each result r.
// An output may be an input: what a thread writes, it has read, and no other thread reads.
template <typename T, int RESULTS, typename Compute, typename... In>
__device__ void each_numbered(long long count, T* const (&out)[RESULTS], Compute compute, const In*... in) {
    typedef typename Wide<T>::type W;
    bool packed = start_at_packs(in...);
    for (int r = 0; r < RESULTS; ++r) packed = packed && start_at_packs(out[r]);
    const long long packs = packed ? count / Pack<T>::SIZE : 0;
    GRID_STRIDE(long long, p, packs) {
        Pack<T> results[RESULTS];
        each_of_pack(results, p * Pack<T>::SIZE, compute, reinterpret_cast<const Pack<T>*>(in)[p]...);
#pragma unroll
        for (int r = 0; r < RESULTS; ++r) reinterpret_cast<Pack<T>*>(out[r])[p] = results[r];
    }
    GRID_STRIDE(long long, rest, count - packs * Pack<T>::SIZE) {
        const long long i = packs * Pack<T>::SIZE + rest;
        W made[RESULTS];
        compute(made, i, static_cast<W>(in[i])...);
        for (int r = 0; r < RESULTS; ++r) out[r][i] = static_cast<T>(made[r]);
    }
}

// The same where it does not matter which number it is: compute(made, in[0][i], in[1][i], ..).
template <typename T, int RESULTS, typename Compute, typename... In>
__device__ void each_number(long long count, T* const (&out)[RESULTS], Compute compute, const In*... in) {
    each_numbered<T>(
        count, out, [=](auto* made, long long, auto... values) { compute(made, values...); }, in...);
}
