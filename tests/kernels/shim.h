// The CUDA words that kernels/*.cu use, for g++: a launch is a loop over blocks and threads, one at a time, or with
// SHIM_TOGETHER over blocks only, whose threads wait for each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __launch_bounds__(...)

struct ShimAxes {
    unsigned x, y;
};
static ShimAxes blockIdx, threadIdx, blockDim, gridDim;

// float16 to float32 and back (to nearest, ties to even), as the GPU's cvt instructions do.
static float shim_float(unsigned short half) {
    const std::uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
    float value;
    if (exponent == 0) {
        value = static_cast<float>(fraction) / 16777216.0f;
        return sign ? -value : value;
    }
    const std::uint32_t bits =
        sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    std::memcpy(&value, &bits, 4);
    return value;
}

static unsigned short shim_half(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const unsigned short sign = static_cast<unsigned short>(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return sign | 0x7fffu;
    if (bits >= 0x47800000u) return sign | 0x7c00u;  // 65536 and above
    // A subnormal counts in units of 2^-24; a normal number drops 13 bits of its fraction.
    const std::uint32_t exponent = bits >> 23;
    const bool subnormal = exponent < 113;
    const std::uint32_t fraction = subnormal ? (bits & 0x7fffffu) | 0x800000u : bits - 0x38000000u;
    const std::uint32_t drop = subnormal ? 126 - exponent : 13;
    if (drop > 24) return sign;
    const std::uint32_t kept = fraction >> drop, rest = fraction & ((1u << drop) - 1), middle = 1u << (drop - 1);
    return static_cast<unsigned short>(sign | (kept + (rest > middle || (rest == middle && (kept & 1)))));
}

// A kernel called as cuLaunchKernel calls it: by pointers to its arguments.
template <typename... A, std::size_t... N>
void shim_call(void (*kernel)(A...), void** arguments, std::index_sequence<N...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[N])...);
}

#ifdef SHIM_TOGETHER
#include "fibers.h"
#endif

template <typename... A>
void shim_launch(void (*kernel)(A...), ShimAxes blocks, unsigned threads, unsigned shared_bytes, void** arguments) {
    gridDim = blocks;
    blockDim.x = threads;
    auto body = [=] { shim_call(kernel, arguments, std::index_sequence_for<A...>()); };
#ifdef SHIM_TOGETHER
    ShimTogether block([](void* given) { (*static_cast<decltype(body)*>(given))(); }, &body, shared_bytes);
#else
    const auto block = [&] {
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) body();
    };
#endif
    for (blockIdx.y = 0; blockIdx.y < blocks.y; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < blocks.x; ++blockIdx.x) block();
    }
}

// Bytes of each parameter, negative for pointers.
template <typename... A>
int shim_parameters(void (*)(A...), int* bytes) {
    const int all[] = {(std::is_pointer<A>::value ? -1 : 1) * static_cast<int>(sizeof(A))...};
    std::memcpy(bytes, all, sizeof(all));
    return sizeof...(A);
}
