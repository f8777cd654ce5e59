// Convolution of float32 numbers by tensor cores, as one matrix product whose columns are never written out.
//
// Result     y = weights · columns, rows × (samples × positions): column (n, o) is what window o of sample n sees.
//            A block makes BM × BN numbers of it, each warp BM × 32, in steps of DEPTH channels at one offset, or,
//            where channels are few, of DEPTH / TAPS channels at TAPS offsets.
//            Where that leaves too few blocks, each sums at_once channels, and add_parts what they make.
//            The adjoint of strides is a convolution for each of its phases, the positions that lie whole strides
//            apart: their windows are others, and what they make ends up between each other.
// Grid       convolve: ceil(rows / BM) · ceil(columns / BN) blocks, rows first, by ceil(channels / at_once), where
//            DEPTH divides at_once, or by phases, each with the columns of the largest; Tile<BM, BN>::THREADS threads,
//            4 · Tile<BM, BN>::SHARED bytes of shared memory.
//            by_offset: count = chunks · DEPTH / TAPS / 4 · padded.  add_parts: count = samples · rows · positions.
// Layout     x: samples × channels × size_in; y: parts × samples × rows × size_out; weights: chunks × offsets / TAPS ×
//            (Weights), channels in chunks of DEPTH / TAPS, and offsets, padded by 0 to whole steps, rows to a multiple
//            of 64, phase after phase; contiguous, weights aligned to 16 bytes.  WIDE: the window is pointwise, 4 divides its positions,
//            and x is aligned, too.
// Bounds     all sizes below 2^28; what lies outside of x counts as 0 and is not read; y is written below rows and
//            columns, and where phases lie, only.
// Numbers    tensor_cores.cuh.  Sums that are not finite there are made again without tensor cores: infinity has
//            no rest.
// Reference  Ops.conv, Ops.conv_transpose (onnxvis/ops/primitives.py) with onnxvis/ops/device/tensor_cores.py.
#include "tensor_cores.cuh"
#include "windows.cuh"

// A convolution of those that make a result: where its weights begin, and where in a plane its first window is.
struct Phase {
    Geometry<int> w;
    int weights, first;
};

// PHASES at most, whose windows lie ``steps`` apart in a plane of rows of this width; one fills the plane.
template <int PHASES> struct Phases {
    Phase at[PHASES];
    int steps[2], width, plane;
};

constexpr int DEPTH = 16, STAGES = 2;  // of a step; steps whose numbers lie in shared memory or are on their way

// Rows of B in shared memory are 4 longer than they need: then 8 threads that load 16 bytes each, at 4 depths of 2
// places 16 columns apart, find them in different banks.
template <int BM, int BN> struct Tile {
    static constexpr int THREADS = BN / 32 * 32;
    static constexpr int A = 2 * DEPTH * BM, B = BN + 4, STAGE = A + DEPTH * B, SHARED = STAGES * STAGE;
    // A multiprocessor's threads: as many as there are registers for, or fewer that need not wait for each other.
    static constexpr int RESIDENT = BN > 64 ? 256 : 384;
};

// A step's weights, hi and lo, for 64 rows, in the order in which the lanes of a warp take them, 4 each: those of two
// rows at two depths, 4 apart, which are one operand.
struct Weights {
    static constexpr int LANES = 32 * 4, PARTS = 2, TILES = 4, ROWS = 64, SIZE = DEPTH * ROWS * PARTS;

    // Of tile ``pair`` of 16 rows, at 8 depths from 8k on.
    __device__ static constexpr int group(int k, int pair, int part) {
        return pair / TILES * SIZE + ((k * TILES + pair % TILES) * PARTS + part) * LANES;
    }
    // Of one number.
    __device__ static int place(int depth, int row, int part) {
        const int pair = row / 32 * 2 + row % 4 / 2, lane = row % 32 / 4 * 4 + depth % 4;
        return group(depth / 8, pair, part) + lane * 4 + depth % 8 / 4 * 2 + row % 2;
    }
};

// The part of the weights that a thread copies, 16 bytes at a time.
template <int BM, int BN> struct Copied {
    static constexpr int APART = Tile<BM, BN>::THREADS * 4;
    const float* from;
    int padded;
    Shared to;

    __device__ Copied(const float* weights, int padded, int above, int first, Shared a)
        : from(weights + (above * padded + first) * 2 * DEPTH + threadIdx.x * 4), padded(padded) {
        to = held(a + threadIdx.x * 4);
    }
    // What the next step needs, into a stage of shared memory.
    __device__ void copy(int stage) {
#pragma unroll
        for (int i = 0; i < Tile<BM, BN>::A; i += APART) copy_later<4>(to + (stage + i), from + i, true);
        from += padded * 2 * DEPTH;
    }
};

// The steps of all offsets, and of a convolution.
template <int TAPS> __device__ int steps(const Geometry<int>& w) { return (w.offsets() + TAPS - 1) / TAPS; }

template <int TAPS> __device__ int steps(const Geometry<int>& w, int channels) {
    return steps<TAPS>(w) * ((channels * TAPS + DEPTH - 1) / DEPTH);
}

// The part of what windows see that a thread copies: 1 column, or 4 neighbours, at some depths.  Several offsets in one
// step are for channels that are one chunk: behind its last offset there is nothing.
template <int BM, int BN, bool WIDE, int TAPS> struct Seen {
    static constexpr int COLUMNS = WIDE ? 4 : 1, ACROSS = BN / COLUMNS, APART = Tile<BM, BN>::THREADS / ACROSS;
    static constexpr int CHANNELS = DEPTH / TAPS;
    const float* x;
    int plane, left, depth, from, top, start, row = 0, column = 0;
    Shared to;

    __device__ Seen(const float* x, const Geometry<int>& w, int channels, int above, int left, int first, int columns,
                    Shared b)
        : x(x), plane(w.inputs()), left(left), depth(threadIdx.x / ACROSS) {
        const int across = threadIdx.x % ACROSS * COLUMNS;
        const Place<int> window(w, first + across);
        top = window.at[1] * w.strides[1] - w.before[1];
        start = held(window.at[2] * w.strides[2] - w.before[2]);
        from = held((window.plane * channels + above + depth) * plane + top * w.size_in[2] + start);
        top = held(first + across < columns ? top : w.size_in[1]);  // beyond the last column, all is outside
        to = held(b + (depth * Tile<BM, BN>::B + across));
    }
    __device__ void copy(int stage, const Geometry<int>& w) {
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            copy_channels(stage + tap * CHANNELS * Tile<BM, BN>::B, w);
            advance(w);
        }
    }
    __device__ void copy_channels(int stage, const Geometry<int>& w) {
        const int down = row * w.dilations[1], right = column * w.dilations[2];
        const bool inside = below(top + down, w.size_in[1]) && below(start + right, w.size_in[2]);
        const float* at = x + (from + down * w.size_in[2] + right);
        const auto each = [&](auto given) {
#pragma unroll
            for (int i = 0; i < CHANNELS; i += APART) {
                copy_later<COLUMNS>(to + (stage + i * Tile<BM, BN>::B), at + static_cast<long long>(plane) * i, given(i));
            }
        };
        if (TAPS == 1 && left >= CHANNELS) {
            each([=](int) { return inside; });
        } else {
            each([=](int i) { return inside && i < left - depth; });
        }
    }
    // Neighbouring offsets see nearly the same numbers, which the cache then still has.
    __device__ void advance(const Geometry<int>& w) {
        if (++column < w.kernel[2]) return;
        column = 0;
        if (++row < w.kernel[1]) return;
        row = 0;
        from += CHANNELS * plane;
        left -= CHANNELS;
    }
};

// 4 columns at each of a thread's depths of a step, as hi + lo.
struct Halves {
    float hi[DEPTH / 4][4], lo[DEPTH / 4][4];

    __device__ Halves(Shared from, int length) {
#pragma unroll
        for (int k = 0; k < DEPTH / 4; ++k) {
            float given[4];
            (from + 4 * k * length).load(given);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                hi[k][i] = rounded_to_tf32(given[i]);
                lo[k][i] = given[i] - hi[k][i];
            }
        }
    }
};

// made[n] += a · b, for 16 rows and 4 tiles of 8 columns, at 8 depths from 8k on.
__device__ inline void multiply_row(float (&made)[4][4], const float (&a)[4], const float (&b)[DEPTH / 4][4], int k) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const float columns[2] = {b[2 * k][n], b[2 * k + 1][n]};
        multiply_tiles(made[n], a, columns);
    }
}

// What a thread of a warp's BM × 32 numbers has: of every 32 rows and 16 columns rows 4g .. 4g + 3 and columns 4t .. 4t +
// 3, for lane 4g + t.  A tensor core's tiles take every fourth row of 32 or its neighbour, and every fourth column, so
// that what a thread loads, and what it has in the end, are neighbours; and of the columns, a tile's even ones from one
// half and its odd ones from the other, so that 4 threads have 16 neighbours, which memory moves at once.
template <int BM> struct Sums {
    static constexpr int ROWS = BM / 8;
    float at[ROWS][8] = {};

    // A step: a and b in shared memory, from a thread's own place on.  The small products first.
    __device__ void add(Shared a, Shared b, int b_length) {
        const Halves columns(b, b_length);
#pragma unroll
        for (int pair = 0; pair < ROWS / 2; ++pair) {
            float hi[DEPTH / 8][4], lo[DEPTH / 8][4], made[4][4] = {};
#pragma unroll
            for (int k = 0; k < DEPTH / 8; ++k) {
                (a + Weights::group(k, pair, 0)).load(hi[k]);
                (a + Weights::group(k, pair, 1)).load(lo[k]);
            }
#pragma unroll
            for (int k = 0; k < DEPTH / 8; ++k) {
                multiply_row(made, lo[k], columns.hi, k);
                multiply_row(made, hi[k], columns.lo, k);
            }
#pragma unroll
            for (int k = 0; k < DEPTH / 8; ++k) multiply_row(made, hi[k], columns.hi, k);
            add(made, 2 * pair);
        }
    }
    __device__ void add(const float (&made)[4][4], int row) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) at[row + i / 2][n + i % 2 * 4] += made[n][i];
        }
    }
    // The row of at[i], from the thread's first, and the column of at[..][j]; where a lane's columns begin in B.
    __device__ static int down(int i) { return i / 4 * 32 + i % 4; }
    __device__ static int across(int j) { return j / 4 * 16 + j % 4; }
    __device__ static int begin(int g) { return g / 2 * 4 + g % 2 * 16; }
    // All below 2^126: neither infinite nor too large for a reciprocal.
    __device__ bool ordinary() const {
        float zero = 0.0f;
#pragma unroll
        for (int i = 0; i < 8 * ROWS; ++i) zero += 0.0f * (4.0f * at[i / 8][i % 8]);
        return zero == 0.0f;
    }
};

// One number of the result, by float32's own sums over some channels.
template <int TAPS>
__device__ inline float summed_again(const float* weights, const float* x, const Geometry<int>& w, int row, int padded,
                                     int channels, int column, int first, int end) {
    const Place<int> window(w, column);
    float sum = 0.0f;
    for (int k = 0; k < w.offsets(); ++k) {
        const int i = window.at[1] * w.strides[1] - w.before[1] + k / w.kernel[2] * w.dilations[1];
        const int j = window.at[2] * w.strides[2] - w.before[2] + k % w.kernel[2] * w.dilations[2];
        const bool inside = below(i, w.size_in[1]) && below(j, w.size_in[2]);
        for (int c = first; c < end; ++c) {
            const int chunk = DEPTH / TAPS, depth = k % TAPS * chunk + c % chunk;
            const float* const step = weights + (c / chunk * steps<TAPS>(w) + k / TAPS) * padded * 2 * DEPTH;
            const float hi = step[Weights::place(depth, row, 0)], lo = step[Weights::place(depth, row, 1)];
            const int at = (window.plane * channels + c) * w.inputs() + i * w.size_in[2] + j;
            sum += (lo == lo ? hi + lo : hi) * (inside ? x[at] : 0.0f);  // infinity has no rest
        }
    }
    return sum;
}

// What becomes of a sum z: itself, or z · r, and what is there already; r / stab(z + bias), as in stabilize.cu.
enum { PLAIN, TIMES, QUOTIENT };

template <int END, bool ORDINARY = false>
__device__ float finished(float z, float r, float onto, float bias, float epsilon) {
    if constexpr (END == PLAIN) return z + onto;
    if constexpr (END == TIMES) return z * r + onto;
    z += bias;
    z += z >= 0.0f ? epsilon : -epsilon;
    return ORDINARY ? divided(r, z) : r / z;
}

// y, r and onto, samples × rows × planes, and bias, one of a row; r and bias are read where END needs them, and onto
// unless it is null, which is -0: it changes nothing.
template <int END, int PHASES> struct Result {
    float* y;
    const float *r, *onto, *bias;
    float epsilon;
    int rows, columns;
    const Phases<PHASES>& phases;
    const Phase& phase;

    // Where a column starts, in row 0; -1 beyond the last.
    __device__ int start(int column) const {
        const Place<int> window(phase.w, column);
        if (column >= columns) return -1;
        if constexpr (PHASES == 1) return window.plane * (rows - 1) * phases.plane + column;
        const int down = window.at[1] * phases.steps[0], right = window.at[2] * phases.steps[1];
        return window.plane * rows * phases.plane + down * phases.width + right + phase.first;
    }
    __device__ void write(int at, int row, float z) const {
        const float there = onto ? onto[at] : -0.0f;
        y[at] = finished<END>(z, END == PLAIN ? 0.0f : r[at], there, END == QUOTIENT ? bias[row] : 0.0f, epsilon);
    }
    // What will be read is fetched to where it is nearer: of 32 columns from one on a line of each row.
    __device__ void prefetch(int row, int column, int step, int end) const {
        const int at = start(column);
        for (int m = row; at >= 0 && m < end && m < rows; m += step) {
            if (END != PLAIN) prefetch_line(r + at + m * phases.plane);
            if (END != QUOTIENT && onto) prefetch_line(onto + at + m * phases.plane);
        }
    }
    // 4 neighbours lie in one sample, aligned to 16 bytes.
    __device__ bool packed() const {
        return PHASES == 1 && phases.plane % 4 == 0 && start_at_packs(y, onto) && (END == PLAIN || start_at_packs(r));
    }
    // What a thread has, from a row and a column on.  All that is read for 8 rows is on its way before it is used.
    template <int BM> __device__ void write_packs(int row, int column, const Sums<BM>& sums) const {
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            const int at = start(column + sums.across(j));
#pragma unroll
            for (int first = 0; first < sums.ROWS; first += 8) write_packs(at, row, first, j, sums);
        }
    }
    // What a warp has, from a row and a column on, by way of shared memory: 32 neighbours at a time.
    template <int BM> __device__ void write_rows(int row, int column, const Sums<BM>& sums, Shared own) const {
        constexpr int LENGTH = 36;
        const int lane = threadIdx.x % 32, at = start(column + lane);
        const Shared from = own + lane, to = own + (lane / 4 * 4 * LENGTH + lane % 4 * 4);
#pragma unroll
        for (int half = 0; half < sums.ROWS; half += 4) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 8; j += 4) {
                    const float(&z)[8] = sums.at[half + i];
                    (to + (i * LENGTH + sums.across(j))).store(z[j], z[j + 1], z[j + 2], z[j + 3]);
                }
            }
            __syncwarp();
#pragma unroll 1
            for (int i = 0; i < 32; i += 8) write_eight(at, row + sums.down(half) + i, from + i * LENGTH, LENGTH);
            __syncwarp();
        }
    }

private:
    template <int BM>
    __device__ void write_packs(int at, int row, int first, int j, const Sums<BM>& sums) const {
        Pack<float> given[8], there[8];
        float added[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int m = row + sums.down(first + i), place = at + m * phases.plane;
            const bool inside = at >= 0 && m < rows;
            if (END != PLAIN && inside) given[i] = *reinterpret_cast<const Pack<float>*>(r + place);
            there[i] = {-0.0f, -0.0f, -0.0f, -0.0f};
            if (END != QUOTIENT && onto && inside) there[i] = *reinterpret_cast<const Pack<float>*>(onto + place);
            added[i] = END == QUOTIENT && inside ? bias[m] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int m = row + sums.down(first + i);
            Pack<float> made;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const float z = sums.at[first + i][j + k];
                made.at[k] = finished<END, true>(z, given[i].at[k], there[i].at[k], added[i], epsilon);
            }
            if (at >= 0 && m < rows) *reinterpret_cast<Pack<float>*>(y + at + m * phases.plane) = made;
        }
    }
    __device__ void write_eight(int at, int row, Shared from, int length) const {
        float z[8], given[8], there[8], added[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int place = at + (row + i) * phases.plane;
            const bool inside = at >= 0 && row + i < rows;
            given[i] = END != PLAIN && inside ? r[place] : 0.0f;
            there[i] = END != QUOTIENT && onto && inside ? onto[place] : -0.0f;
            added[i] = END == QUOTIENT && inside ? bias[row + i] : 0.0f;
            z[i] = (from + i * length).load();
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float made = finished<END, true>(z[i], given[i], there[i], added[i], epsilon);
            if (at >= 0 && row + i < rows) y[at + (row + i) * phases.plane] = made;
        }
    }
};

// Where in the result a block, a warp in it and a lane in that, 4g + t, are at work.
template <int BM, int BN> struct Part {
    int block_row, block_column, warp_column, g, t;

    __device__ Part(int block, int thread, int rows) {
        const int down = (rows + BM - 1) / BM;
        block_row = block % down * BM;
        block_column = block / down * BN;
        warp_column = thread / 32 * 32;
        g = thread % 32 / 4;
        t = thread % 4;
    }
};

template <typename T, int BM, int BN, bool WIDE, int END, int PHASES, int TAPS>
__global__ void __launch_bounds__(Tile<BM, BN>::THREADS, Tile<BM, BN>::RESIDENT / Tile<BM, BN>::THREADS)
    convolve(const T* weights, const T* x, T* y, const T* r, const T* onto, const T* bias, double epsilon,
             Phases<PHASES> phases, int samples, int rows, int padded, int channels, int at_once) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    typedef Tile<BM, BN> Block;
    const Part<BM, BN> part(blockIdx.x, threadIdx.x, rows);
    const int number = PHASES == 1 ? blockIdx.y : 0;  // of the part of the channels
    const Phase& phase = phases.at[PHASES == 1 ? 0 : blockIdx.y];
    const Geometry<int>& w = phase.w;
    const int columns = samples * w.windows();
    if (PHASES > 1 && part.block_column >= columns) return;
    const int first = number * at_once, some = channels - first < at_once ? channels - first : at_once;
    const Shared shared = Shared::start(), shared_b = shared + Block::A;
    Copied<BM, BN> a(weights + phase.weights, padded, steps<TAPS>(w, first), part.block_row, shared);
    Seen<BM, BN, WIDE, TAPS> b(x, w, channels, first, some, part.block_column, columns, shared_b);
    const Shared own_a = held(shared + 4 * (4 * part.g + part.t));
    const Shared own_b = held(shared_b + (part.t * Block::B + part.warp_column + Sums<BM>::begin(part.g)));
    int left = steps<TAPS>(w, some), stage = 0;
    const auto ask = [&] {
        if (b.left > 0) {
            a.copy(stage);
            b.copy(stage, w);
        }
        close_copies();
        stage = stage + Block::STAGE < Block::SHARED ? stage + Block::STAGE : 0;
    };
    for (int step = 0; step < STAGES - 1; ++step) ask();
    T* const to = y + number * (rows * columns);
    const Result<END, PHASES> result{to, r, onto, bias, static_cast<float>(epsilon), rows, columns, phases, phase};
    const int line = held(threadIdx.x), across = BN / 32;
    result.prefetch(part.block_row + line / across, part.block_column + line % across * 32, BN / across,
                    part.block_row + BM);
    Sums<BM> sums;
#pragma unroll 1
    for (; left > 0; --left) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // everyone's copies of this step are there, and what the step before read is free
        ask();
        sums.add(own_a + stage, own_b + stage, Block::B);
    }
    const Part<BM, BN> again(held(blockIdx.x), held(threadIdx.x), rows);  // rather than held all the time
    const int row = again.block_row + 4 * again.g, column = again.block_column + again.warp_column;
    if (result.packed()) {
        result.write_packs(row, column + 4 * again.t, sums);
    } else {
        __syncthreads();  // nobody reads a step's numbers any more
        result.write_rows(again.block_row, column, sums, shared + again.warp_column * 36);
    }
    if (sums.ordinary()) return;
#pragma unroll 1
    for (int i = 0; i < 8 * sums.ROWS; ++i) {
        const int m = row + sums.down(i / 8), n = column + 4 * again.t + sums.across(i % 8), start = result.start(n);
        if (m >= rows || start < 0) continue;
        const T* const from = weights + phase.weights;
        const float z = summed_again<TAPS>(from, x, w, m, padded, channels, n, first, first + some);
        result.write(start + m * phases.plane, m, z);
    }
#endif
}

// The sum of parts, count numbers each, one after the other.
template <typename T, int END>
__global__ void add_parts(const T* parts, T* y, const T* r, const T* onto, const T* bias, double epsilon, int number,
                          int rows, Divisor<int> positions, int count) {
    GRID_STRIDE(int, i, count) {
        T z = parts[i];
        for (int part = 1; part < number; ++part) z += parts[part * count + i];
        const int row = positions.quotient(i) % rows;
        const T given = END == PLAIN ? T(0.0f) : r[i], added = END == QUOTIENT ? bias[row] : T(0.0f);
        y[i] = finished<END>(z, given, onto ? onto[i] : T(-0.0f), added, static_cast<float>(epsilon));
    }
}

// Weights as convolve takes them, of kernels of height × width: that at (i, j) from w[row of the result · row +
// channel · apart + first + i · down + j · right].  A thread goes through a few channels, which for a convolution are
// neighbours in w.
template <typename T>
__global__ void by_offset(const T* w, T* weights, int rows, int padded, int channels, int row, int apart, int first,
                          int down, int right, int height, int width, int taps, int count) {
    constexpr int SOME = 4;
    const int chunk = DEPTH / taps, offsets = height * width, steps = (offsets + taps - 1) / taps;
    GRID_STRIDE(int, i, count) {
        const int m = i % padded, start = i / padded * SOME;
        for (int c = start; c < start + SOME; ++c) {
            T* const to = weights + c / chunk * steps * padded * 2 * DEPTH;
            const T* const from = w + (m * row + c * apart + first);
            for (int k = 0; k < steps * taps; ++k) {
                const bool given = m < rows && c < channels && k < offsets;
                const T x = given ? from[k / width * down + k % width * right] : T(0.0f), hi = high_part(x);
                const int depth = k % taps * chunk + c % chunk;
                T* const step = to + k / taps * padded * 2 * DEPTH;
                step[Weights::place(depth, m, 0)] = hi;
                step[Weights::place(depth, m, 1)] = x - hi;
            }
        }
    }
}
