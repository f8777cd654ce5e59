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
//            of 64, phase after phase; contiguous, weights aligned to 16 bytes.  WIDE: the window is pointwise, 4
//            divides its positions, and x is aligned, too.
// Bounds     all sizes below 2^28; what lies outside of x counts as 0 and is not read; y is written below rows and
//            columns, and where phases lie, only.
// Numbers    tensor_cores.cuh.  Sums that are not finite there are made again without tensor cores: infinity has
//            no rest.
// Reference  Ops.conv, Ops.conv_transpose (onnxvis/ops/primitives.py) with onnxvis/ops/device/tensor_cores.py.
#include "results.cuh"

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
             int rectified, Phases<PHASES> phases, int samples, int rows, int padded, int channels, int at_once) {
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
    const Settings settings{static_cast<float>(epsilon), rectified != 0};
    const Result<END, PHASES> result{to, r, onto, bias, settings, rows, columns, phases, phase};
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
        result.write_rows(again.block_row, column, sums, shared + again.warp_column * result.LENGTH);
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
__global__ void add_parts(const T* parts, T* y, const T* r, const T* onto, const T* bias, double epsilon, int rectified,
                          int number, int rows, Divisor<int> positions, int count) {
    const Settings settings{static_cast<float>(epsilon), rectified != 0};
    GRID_STRIDE(int, i, count) {
        T z = parts[i];
        for (int part = 1; part < number; ++part) z += parts[part * count + i];
        const int row = positions.quotient(i) % rows;
        const T given = END == PLAIN || !r ? T(1.0f) : r[i], added = END == QUOTIENT ? bias[row] : T(0.0f);
        y[i] = finished<END>(z, given, onto ? onto[i] : T(-0.0f), added, settings);
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
