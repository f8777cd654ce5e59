// Blocks whose threads wait for each other, for g++: each thread is a fiber, and they take turns.
//
// Shared memory starts as nonsense.  What is asked to be copied there makes its place nonsense at once, and arrives when
// it is waited for, so that a missing wait, barrier or stage shows.  A tensor core's products are those of numbers without
// their last 13 bits, and every sum is rounded towards 0, which is worse than what GPUs do.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

constexpr float SHIM_NONSENSE = 1e9f;  // which no kernel can tell, as it can NaN, from a number

struct ShimCopy {
    float *to;
    const float* from;
    int numbers;
    bool given;
};

struct ShimFiber {
    jmp_buf resumed;
    bool started, ended;
    std::vector<ShimCopy> open;
    std::vector<std::vector<ShimCopy>> groups;
};

// What the lanes of a warp brought to a product, and how many of them are there.
struct ShimWarp {
    float a[32][4], b[32][2], sum[32][4];
    unsigned arrived, round;
};

static jmp_buf shim_scheduler;
static std::vector<ShimFiber> shim_fibers;
static std::vector<ShimWarp> shim_warps;
static unsigned shim_arrived, shim_round, shim_idle;
static float* shim_shared;
static std::size_t shim_shared_numbers;

[[noreturn]] static void shim_fail(const char* what) {
    std::fprintf(stderr, "block %u, %u, thread %u: %s\n", blockIdx.x, blockIdx.y, threadIdx.x, what);
    std::abort();
}

// The other threads' turn, until they have come as far.
static void shim_until(const unsigned& round, unsigned mine) {
    while (round == mine) {
        if (++shim_idle > 2 * blockDim.x) shim_fail("waits for a thread that does not come");
        if (!_setjmp(shim_fibers[threadIdx.x].resumed)) _longjmp(shim_scheduler, 1);
    }
    shim_idle = 0;
}

static void __syncthreads() {
    const unsigned mine = shim_round;
    if (++shim_arrived == blockDim.x) {
        shim_arrived = 0;
        ++shim_round;
    }
    shim_until(shim_round, mine);
}

static void __syncwarp() {
    ShimWarp& warp = shim_warps[threadIdx.x / 32];
    const unsigned mine = warp.round;
    if (++warp.arrived == 32) {
        warp.arrived = 0;
        ++warp.round;
    }
    shim_until(warp.round, mine);
}

// ---- tensor cores -----------------------------------------------------------------------------------

static unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

static float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

static float shim_cut(float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000u); }

// Rounded towards 0, infinity apart.
static float shim_towards_zero(double exact) {
    const float near = static_cast<float>(exact);
    const bool beyond = std::fabs(static_cast<double>(near)) > std::fabs(exact) && !std::isinf(near);
    return beyond ? __uint_as_float(__float_as_uint(near) - 1) : near;
}

static void shim_multiply(ShimWarp& warp) {
    for (int row = 0; row < 16; ++row) {
        for (int column = 0; column < 8; ++column) {
            float& sum = warp.sum[row % 8 * 4 + column / 2][row / 8 * 2 + column % 2];
            for (int k = 0; k < 8; ++k) {
                const double a = warp.a[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2];
                sum = shim_towards_zero(sum + a * warp.b[column * 4 + k % 4][k / 4]);
            }
        }
    }
}

static void shim_multiply_tiles(float (&sum)[4], const float (&a)[4], const float (&b)[2]) {
    ShimWarp& warp = shim_warps[threadIdx.x / 32];
    const unsigned lane = threadIdx.x % 32, mine = warp.round;
    for (int i = 0; i < 4; ++i) warp.a[lane][i] = shim_cut(a[i]);
    for (int i = 0; i < 2; ++i) warp.b[lane][i] = shim_cut(b[i]);
    std::memcpy(warp.sum[lane], sum, sizeof(sum));
    if (++warp.arrived == 32) {
        shim_multiply(warp);
        warp.arrived = 0;
        ++warp.round;
    }
    shim_until(warp.round, mine);
    std::memcpy(sum, warp.sum[lane], sizeof(sum));
}

// ---- shared memory ----------------------------------------------------------------------------------

static float* shim_place(int address, int numbers) {
    if (address < 0 || address % (4 * numbers) || address / 4 + numbers > static_cast<int>(shim_shared_numbers)) {
        shim_fail("shared memory is not there, or not aligned");
    }
    return shim_shared + address / 4;
}

static void shim_load_shared(float (&to)[4], int address) { std::memcpy(to, shim_place(address, 4), 16); }

static float shim_load_shared(int address) { return *shim_place(address, 1); }

static void shim_store_shared(int address, const float (&from)[4]) { std::memcpy(shim_place(address, 4), from, 16); }

static void shim_copy_later(int to, const float* from, int numbers, bool given) {
    if (given && reinterpret_cast<std::uintptr_t>(from) % (4 * numbers)) shim_fail("what is copied is not aligned");
    float* const place = shim_place(to, numbers);
    for (int i = 0; i < numbers; ++i) place[i] = SHIM_NONSENSE;
    shim_fibers[threadIdx.x].open.push_back({place, from, numbers, given});
}

static void shim_prefetch(const float* at) { static_cast<void>(*static_cast<const volatile float*>(at)); }

static void shim_close_copies() {
    ShimFiber& fiber = shim_fibers[threadIdx.x];
    fiber.groups.push_back(std::move(fiber.open));
    fiber.open.clear();
}

static void shim_wait_for_copies(unsigned but) {
    auto& groups = shim_fibers[threadIdx.x].groups;
    while (groups.size() > but) {
        for (const ShimCopy& copy : groups.front()) {
            for (int i = 0; i < copy.numbers; ++i) copy.to[i] = copy.given ? copy.from[i] : 0.0f;
        }
        groups.erase(groups.begin());
    }
}

// ---- launches ---------------------------------------------------------------------------------------

static void (*shim_body)(void*);
static void* shim_given;

static void shim_start() {
    shim_body(shim_given);
    shim_fibers[threadIdx.x].ended = true;
    shim_idle = 0;
    _longjmp(shim_scheduler, 1);
}

// Start a thread on its stack, or go on with it, until it waits or ends.  By jumps, since setcontext calls the system.
static void shim_turn(char* stack, std::size_t size) {
    ShimFiber& fiber = shim_fibers[threadIdx.x];
    if (_setjmp(shim_scheduler)) return;
    if (fiber.started) _longjmp(fiber.resumed, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    makecontext(&context, shim_start, 0);
    setcontext(&context);
}

static void shim_block(char* stacks, std::size_t size) {
    shim_fibers.assign(blockDim.x, {});
    shim_warps.assign((blockDim.x + 31) / 32, {});
    shim_arrived = 0;
    for (std::size_t i = 0; i < shim_shared_numbers; ++i) shim_shared[i] = SHIM_NONSENSE;
    for (bool left = true; left;) {
        left = false;
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) {
            if (shim_fibers[threadIdx.x].ended) continue;
            shim_turn(stacks + threadIdx.x * size, size);
            left = true;
        }
    }
}

// body(given) by all threads of a block.
class ShimTogether {
    static constexpr std::size_t STACK = 32768;
    std::vector<char> stacks;
    std::vector<float> shared;

  public:
    ShimTogether(void (*body)(void*), void* given, unsigned shared_bytes)
        : stacks(blockDim.x * STACK), shared(shared_bytes / 4 + 4) {
        const auto start = reinterpret_cast<std::uintptr_t>(shared.data());
        shim_shared = reinterpret_cast<float*>((start + 15) & ~std::uintptr_t(15));
        shim_shared_numbers = shared_bytes / 4;
        shim_body = body;
        shim_given = given;
    }
    void operator()() { shim_block(stacks.data(), STACK); }
};
