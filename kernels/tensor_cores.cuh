// Products of float32 numbers by tensor cores, and copies to shared memory that run beside them.
//
// Precision  A tensor core multiplies numbers of 10 bits (TF32: float32 without its last 13 bits, which it
//            ignores).  A float32 number is the sum of two of them up to 2^-23: hi, rounded to nearest, and the
//            rest lo, of which at most the last bit is ignored; both have a sign, so what is lost has no bias.
//            a·b is lo·hi + hi·lo + hi·hi (Ootomo & Yokota 2022); lo·lo is below float32's own rounding.
//            What a tensor core sums it truncates, so it sums the products of 16 numbers only, and what it makes of
//            them is added as usual.
// Compute capability 8.0 and above.  Under g++ a warp's threads take turns (tests/kernels/fibers.h).
#pragma once

// x rounded to 10 bits, ties away from 0.  By integers: what cvt.rna.tf32.f32 comes down to, without its care for
// NaN, of which the rest is NaN whatever this makes of it.
__device__ inline float rounded_to_tf32(float x) {
    return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}

// hi for a number that hi + lo is to give again: finite where it is.
__device__ inline float high_part(float x) {
    const float hi = rounded_to_tf32(x), cut = __uint_as_float(__float_as_uint(x) & 0xffffe000u);
    if (hi - hi == 0.0f) return hi;
    return x - x == 0.0f ? cut : x;
}

// a / b for b below 2^126, right up to the last bit, without the branches by which a compiler cares for all others:
// 64 of them, one after the other, take longer than many a sum.
__device__ inline float divided(float a, float b) {
#ifdef __CUDACC__
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(b));
    const float quotient = a * reciprocal, nearer = __fmaf_rn(__fmaf_rn(-b, quotient, a), reciprocal, quotient);
    return nearer == nearer ? nearer : quotient;  // infinite
#else
    return a / b;
#endif
}

// sum + a·b of a warp: 16×8 numbers, the products of 16×8 by 8×8.  Of lane 4g + t:
//   sum  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
//   a    (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
//   b    (t, g), (t + 4, g)
__device__ inline void multiply_tiles(float (&sum)[4], const float (&a)[4], const float (&b)[2]) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
    shim_multiply_tiles(sum, a, b);
#endif
}

// ---- shared memory ----------------------------------------------------------------------------------

// Computed once and held in a register, not computed again wherever it is used.
__device__ inline int held(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// A place in the shared memory that a launch gives a block, aligned to 16 bytes.
struct Shared {
    int address;  // in bytes, as instructions take it

    __device__ static Shared start() {
#ifdef __CUDACC__
        extern __shared__ __align__(16) float numbers[];
        return {static_cast<int>(__cvta_generic_to_shared(numbers))};
#else
        return {0};
#endif
    }
    __device__ Shared operator+(int numbers) const { return {address + 4 * numbers}; }
    __device__ float load() const {
#ifdef __CUDACC__
        float x;
        asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
        return x;
#else
        return shim_load_shared(address);
#endif
    }
    __device__ void store(float a, float b, float c, float d) const {
#ifdef __CUDACC__
        asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
#else
        shim_store_shared(address, {a, b, c, d});
#endif
    }
    __device__ void load(float (&to)[4]) const {
#ifdef __CUDACC__
        asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
                     : "r"(address)
                     : "memory");
#else
        shim_load_shared(to, address);
#endif
    }
};

__device__ inline Shared held(Shared x) { return {held(x.address)}; }

// NUMBERS (1 or 4 neighbours, aligned) from global to shared memory; zeros where there is nothing to copy, and
// ``from`` is not read.
template <int NUMBERS> __device__ void copy_later(Shared to, const float* from, bool given) {
#ifdef __CUDACC__
    const int bytes = given ? 4 * NUMBERS : 0;
    if constexpr (NUMBERS == 4) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.address), "l"(from), "r"(bytes) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to.address), "l"(from), "r"(bytes) : "memory");
    }
#else
    shim_copy_later(to.address, from, NUMBERS, given);
#endif
}

// The copies that this thread asked for since it last said so are a group.
__device__ inline void close_copies() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    shim_close_copies();
#endif
}

// Until all of this thread's groups but the last GROUPS are there.
template <int GROUPS> __device__ void wait_for_copies() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#else
    shim_wait_for_copies(GROUPS);
#endif
}

// A line of memory into the cache that all share, while something else is waited for.
__device__ inline void prefetch_line(const float* at) {
#ifdef __CUDACC__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#else
    shim_prefetch(at);
#endif
}
