// Convolution of float32 numbers by tensor cores, as one matrix product whose columns are never written out.
//
// Result     y = weights · columns, rows × (samples × positions): column (n, o) is what window o of sample n sees.
//            A block makes BM × BN numbers of it, each warp 64 × 32, in steps of DEPTH channels at one offset.
//            Where that leaves too few blocks, each sums at_once channels, and add_parts what they make.
//            The adjoint of strides is a convolution for each of its phases, the positions that lie whole strides
//            apart: their windows are others, and what they make ends up between each other.
// Grid       convolve: ceil(rows / BM) · ceil(columns / BN) blocks, rows first, by ceil(channels / at_once), where
//            DEPTH divides at_once, or by phases, each with the columns of the largest; Tile<BM, BN>::THREADS threads,
//            4 · Tile<BM, BN>::SHARED bytes of shared memory.
//            by_offset: count = chunks · DEPTH / 4 · padded.  add_parts: count = samples · rows · positions.
// Layout     x: samples × channels × size_in; y: parts × samples × rows × size_out; weights: chunks × offsets × DEPTH ×
//            padded, channels in chunks of DEPTH and rows padded by 0 to a multiple of BM, phase after phase;
//            contiguous, weights aligned to 16 bytes.  WIDE: the window is pointwise, 4 divides its positions, and x
//            is aligned, too.
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

constexpr int DEPTH = 16, STAGES = 3;  // of a step; steps whose numbers lie in shared memory or are on their way

// Rows of shared memory are longer than they need, by 8 and by 4: then 8 threads that load 16 bytes each, at 4 depths
// of 2 places, which are neighbours in A and 16 columns apart in B, find them in different banks.
template <int BM, int BN> struct Tile {
    static constexpr int THREADS = BM / 64 * (BN / 32) * 32;
    static constexpr int A = BM + 8, B = BN + 4, STAGE = DEPTH * (A + B), SHARED = STAGES * STAGE;
};

// The part of the weights that a thread copies: 4 rows at some depths.
template <int BM, int BN> struct Weights {
    static constexpr int ACROSS = BM / 4, APART = Tile<BM, BN>::THREADS / ACROSS;
    const float* weights;
    int padded, from;
    Shared to;

    __device__ Weights(const float* weights, int padded, int above, int first, Shared a)
        : weights(weights), padded(padded) {
        const int depth = threadIdx.x / ACROSS, row = threadIdx.x % ACROSS * 4;
        from = held((above + depth) * padded + first + row);
        to = held(a + (depth * Tile<BM, BN>::A + row));
    }
    // What the next step needs, into a stage of shared memory.
    __device__ void copy(int stage) {
        const float* at = weights + from;
#pragma unroll
        for (int i = 0; i < DEPTH; i += APART, at += APART * padded) {
            copy_later<4>(to + (stage + i * Tile<BM, BN>::A), at, true);
        }
        from += DEPTH * padded;
    }
};

// The part of what windows see that a thread copies: 1 column, or 4 neighbours, at some depths.
template <int BM, int BN, bool WIDE> struct Seen {
    static constexpr int COLUMNS = WIDE ? 4 : 1, ACROSS = BN / COLUMNS, APART = Tile<BM, BN>::THREADS / ACROSS;
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
        const int down = row * w.dilations[1], right = column * w.dilations[2];
        const bool inside = below(top + down, w.size_in[1]) && below(start + right, w.size_in[2]);
        const int some = inside ? left - depth : 0;
        const float* at = x + (from + down * w.size_in[2] + right);
#pragma unroll
        for (int i = 0; i < DEPTH; i += APART, at += APART * plane) {
            copy_later<COLUMNS>(to + (stage + i * Tile<BM, BN>::B), at, i < some);
        }
        advance(w);
    }
    // Neighbouring offsets see nearly the same numbers, which the cache then still has.
    __device__ void advance(const Geometry<int>& w) {
        if (++column < w.kernel[2]) return;
        column = 0;
        if (++row < w.kernel[1]) return;
        row = 0;
        from += DEPTH * plane;
        left -= DEPTH;
    }
};

// 4 numbers at each of a thread's depths of a step, as hi + lo.
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

// made[n] += a · b, for 16 rows, the pair from ``row`` on of each thread's, and 4 tiles of 8 columns, at 8 depths.
__device__ inline void multiply_row(float (&made)[4][4], const float (&a)[DEPTH / 4][4], int row,
                                    const float (&b)[DEPTH / 4][4], int k) {
    const float rows[4] = {a[k][row], a[k][row + 1], a[k + 1][row], a[k + 1][row + 1]};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const float columns[2] = {b[k][n], b[k + 1][n]};
        multiply_tiles(made[n], rows, columns);
    }
}

// What a thread of a warp's 64 × 32 numbers has: rows 4g .. 4g + 3 and columns 4t .. 4t + 3 of all halves, for lane
// 4g + t.  A tensor core's tiles take every fourth row of a half or its neighbour, and every fourth column, so that
// what a thread loads, and what it has in the end, are neighbours; and of the columns, a tile's even ones from one
// half and its odd ones from the other, so that 4 threads have 16 neighbours, which memory moves at once.
struct Sums {
    float at[8][8] = {};

    // A step: columns a and b of shared memory, from a thread's own depth and place on.  The small products first.
    __device__ void add(Shared a, int a_length, Shared b, int b_length) {
        const Halves columns(b, b_length);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const Halves rows(a + 32 * half, a_length);
#pragma unroll
            for (int row = 0; row < 4; row += 2) {
                float made[4][4] = {};
#pragma unroll
                for (int k = 0; k < DEPTH / 4; k += 2) {
                    multiply_row(made, rows.lo, row, columns.hi, k);
                    multiply_row(made, rows.hi, row, columns.lo, k);
                }
#pragma unroll
                for (int k = 0; k < DEPTH / 4; k += 2) multiply_row(made, rows.hi, row, columns.hi, k);
                add(made, 4 * half + row);
            }
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
        for (int i = 0; i < 64; ++i) zero += 0.0f * (4.0f * at[i / 8][i % 8]);
        return zero == 0.0f;
    }
};

// One number of the result, by float32's own sums over some channels.
__device__ inline float summed_again(const float* weights, const float* x, const Geometry<int>& w, int row, int padded,
                                     int channels, int column, int first, int end) {
    const Place<int> window(w, column);
    float sum = 0.0f;
    for (int k = 0; k < w.offsets(); ++k) {
        const int i = window.at[1] * w.strides[1] - w.before[1] + k / w.kernel[2] * w.dilations[1];
        const int j = window.at[2] * w.strides[2] - w.before[2] + k % w.kernel[2] * w.dilations[2];
        const bool inside = below(i, w.size_in[1]) && below(j, w.size_in[2]);
        for (int c = first; c < end; ++c) {
            const int depth = (c / DEPTH * w.offsets() + k) * DEPTH + c % DEPTH;
            const int at = (window.plane * channels + c) * w.inputs() + i * w.size_in[2] + j;
            sum += weights[depth * padded + row] * (inside ? x[at] : 0.0f);
        }
    }
    return sum;
}

// What becomes of a sum z: itself; z · r; r / stab(z + bias), as in stabilize.cu.
enum { PLAIN, TIMES, QUOTIENT };

template <int END, bool ORDINARY = false> __device__ float finished(float z, float r, float bias, float epsilon) {
    if constexpr (END == PLAIN) return z;
    if constexpr (END == TIMES) return z * r;
    z += bias;
    z += z >= 0.0f ? epsilon : -epsilon;
    return ORDINARY ? divided(r, z) : r / z;
}

// y and r, samples × rows × planes, and bias, one of a row; r and bias are read where END needs them.
template <int END, int PHASES> struct Result {
    float* y;
    const float *r, *bias;
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
        y[at] = finished<END>(z, END == PLAIN ? 0.0f : r[at], END == QUOTIENT ? bias[row] : 0.0f, epsilon);
    }
    // What a thread has, from a row and a column on.
    __device__ void write(int row, int column, const Sums& sums) const {
        // Where 4 divides the positions, 4 neighbours lie in one sample.
        const bool packed = phases.plane % 4 == 0 && start_at_packs(y) && (END == PLAIN || start_at_packs(r));
        if (PHASES == 1 && packed) {
            write_columns<Pack<float>>(row, column, sums);
        } else {
            write_columns<One>(row, column, sums);
        }
    }

private:
    struct One {
        static constexpr int SIZE = 1;
        float at[1];
    };

    // As many columns at once as P holds; all that is read for them is on its way before any of it is used.
    template <typename P> __device__ void write_columns(int row, int column, const Sums& sums) const {
#pragma unroll
        for (int j = 0; j < 8; j += P::SIZE) {
            const int at = start(column + Sums::across(j));
            P given[8];
            float added[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const int m = row + Sums::down(i);
                const bool inside = at >= 0 && m < rows;
                if (END != PLAIN && inside) given[i] = *reinterpret_cast<const P*>(r + at + m * phases.plane);
                added[i] = END == QUOTIENT && inside ? bias[m] : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const int m = row + Sums::down(i);
                P made;
#pragma unroll
                for (int k = 0; k < P::SIZE; ++k) {
                    made.at[k] = finished<END, true>(sums.at[i][j + k], given[i].at[k], added[i], epsilon);
                }
                if (at >= 0 && m < rows) *reinterpret_cast<P*>(y + at + m * phases.plane) = made;
            }
        }
    }
};

// Where in the result a block, a warp in it and a lane in that, 4g + t, are at work.
template <int BM, int BN> struct Part {
    int block_row, block_column, warp_row, warp_column, g, t;

    __device__ Part(int block, int thread, int rows) {
        const int down = (rows + BM - 1) / BM;
        block_row = block % down * BM;
        block_column = block / down * BN;
        warp_row = thread / 32 % (BM / 64) * 64;
        warp_column = thread / 32 / (BM / 64) * 32;
        g = thread % 32 / 4;
        t = thread % 4;
    }
};

template <typename T, int BM, int BN, bool WIDE, int END, int PHASES>
__global__ void __launch_bounds__(Tile<BM, BN>::THREADS, 384 / Tile<BM, BN>::THREADS)
    convolve(const T* weights, const T* x, T* y, const T* r, const T* bias, double epsilon, Phases<PHASES> phases,
             int samples, int rows, int padded, int channels, int at_once) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    typedef Tile<BM, BN> Block;
    const Part<BM, BN> part(blockIdx.x, threadIdx.x, rows);
    const int number = PHASES == 1 ? blockIdx.y : 0;  // of the part of the channels
    const Phase& phase = phases.at[PHASES == 1 ? 0 : blockIdx.y];
    const Geometry<int>& w = phase.w;
    const int columns = samples * w.windows();
    if (PHASES > 1 && part.block_column >= columns) return;
    const int first = number * at_once, some = channels - first < at_once ? channels - first : at_once;
    const Shared shared = Shared::start(), shared_b = shared + DEPTH * Block::A;
    Weights<BM, BN> a(weights + phase.weights, padded, first * w.offsets(), part.block_row, shared);
    Seen<BM, BN, WIDE> b(x, w, channels, first, some, part.block_column, columns, shared_b);
    const Shared own_a = held(shared + (part.t * Block::A + part.warp_row + 4 * part.g));
    const Shared own_b = held(shared_b + (part.t * Block::B + part.warp_column + Sums::begin(part.g)));
    int left = w.offsets() * ((some + DEPTH - 1) / DEPTH), stage = 0;
    const auto ask = [&] {
        if (b.left > 0) {
            a.copy(stage);
            b.copy(stage, w);
        }
        close_copies();
        stage = stage + Block::STAGE < Block::SHARED ? stage + Block::STAGE : 0;
    };
    for (int step = 0; step < STAGES - 1; ++step) ask();
    Sums sums;
#pragma unroll 1
    for (; left > 0; --left) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // everyone's copies of this step are there, and what the step before read is free
        ask();
        sums.add(own_a + stage, Block::A, own_b + stage, Block::B);
    }
    const Part<BM, BN> again(held(blockIdx.x), held(threadIdx.x), rows);  // rather than held all the time
    const int row = again.block_row + again.warp_row + 4 * again.g;
    const int column = again.block_column + again.warp_column + 4 * again.t;
    T* const to = y + number * (rows * columns);
    const Result<END, PHASES> result{to, r, bias, static_cast<float>(epsilon), rows, columns, phases, phase};
    result.write(row, column, sums);
    if (sums.ordinary()) return;
#pragma unroll 1
    for (int i = 0; i < 64; ++i) {
        const int m = row + Sums::down(i / 8), n = column + Sums::across(i % 8), start = result.start(n);
        if (m >= rows || start < 0) continue;
        const T* const from = weights + phase.weights;
        const float z = summed_again(from, x, w, m, padded, channels, n, first, first + some);
        result.write(start + m * phases.plane, m, z);
    }
#endif
}

// The sum of parts, count numbers each, one after the other.
template <typename T, int END>
__global__ void add_parts(const T* parts, T* y, const T* r, const T* bias, double epsilon, int number, int rows,
                          Divisor<int> positions, int count) {
    GRID_STRIDE(int, i, count) {
        T z = parts[i];
        for (int part = 1; part < number; ++part) z += parts[part * count + i];
        const int row = positions.quotient(i) % rows;
        const T given = END == PLAIN ? T(0.0f) : r[i], added = END == QUOTIENT ? bias[row] : T(0.0f);
        y[i] = finished<END>(z, given, added, static_cast<float>(epsilon));
    }
}

// Weights as convolve takes them, of kernels of height × width: that at (i, j) from w[row of the result · row +
// channel · apart + first + i · down + j · right].  A thread goes through a few channels, which for a convolution are
// neighbours in w.
template <typename T>
__global__ void by_offset(const T* w, T* weights, int rows, int padded, int channels, int row, int apart, int first,
                          int down, int right, int height, int width, int count) {
    constexpr int SOME = 4;
    const int offsets = height * width;
    GRID_STRIDE(int, i, count) {
        const int m = i % padded, start = i / padded * SOME;
        for (int c = start; c < start + SOME; ++c) {
            T* to = weights + (c / DEPTH * offsets * DEPTH + c % DEPTH) * padded + m;
            const bool given = m < rows && c < channels;
            const T* const from = w + (m * row + c * apart + first);
            for (int k = 0; k < height; ++k) {
                for (int j = 0; j < width; ++j, to += DEPTH * padded) {
                    *to = given ? from[k * down + j * right] : T(0.0f);
                }
            }
        }
    }
}
