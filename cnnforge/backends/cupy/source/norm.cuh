// Batch normalisation: x, y (rows, columns), everything else (columns,).

#include "cells.cuh"
#include "step.cuh"

// What is known of some numbers: how many there are, their mean, their squared distances from it.
struct Spread {
    int count;
    T mean, squares;
};

// Of both together (Chan, Golub and LeVeque, 1983).
__device__ inline Spread joined(Spread a, Spread b) {
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    Spread s;
    s.count = a.count + b.count;
    const T apart = b.mean - a.mean, share = (T)b.count / (T)s.count;
    s.mean = a.mean + apart * share;
    s.squares = a.squares + b.squares + apart * apart * share * (T)a.count;
    return s;
}

// Of all threadIdx.y together, right in thread (x, 0). The arrays: MOST_THREADS elements of shared memory.
__device__ inline Spread joined_down(Spread own, int* counts, T* means, T* squares) {
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    counts[at] = own.count;
    means[at] = own.mean;
    squares[at] = own.squares;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if ((int)threadIdx.y < half) {
            const int to = at + half * blockDim.x;
            const Spread other = {counts[to], means[to], squares[to]};
            own = joined(own, other);
            counts[at] = own.count;
            means[at] = own.mean;
            squares[at] = own.squares;
        }
        __syncthreads();
    }
    return own;
}

// partial: (3, parts, columns), the counts, means and squares of every part's rows.
extern "C" __global__ void batch_norm_spread(const T* x, T* partial, int rows, int columns) {
    __shared__ int counts[MOST_THREADS];
    __shared__ T means[MOST_THREADS];
    __shared__ T squares[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Spread own = {0, 0, 0};
    if (c < columns)
        for (int r = blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += gridDim.y * blockDim.y) {
            const T v = x[(i64)r * columns + c], from_old = v - own.mean;  // Welford, 1962
            own.count += 1;
            own.mean += from_old / (T)own.count;
            own.squares += from_old * (v - own.mean);
        }
    own = joined_down(own, counts, means, squares);
    if (threadIdx.y == 0 && c < columns) {
        const i64 plane = (i64)gridDim.y * columns, to = (i64)blockIdx.y * columns + c;
        partial[to] = (T)own.count;
        partial[plane + to] = own.mean;
        partial[2 * plane + to] = own.squares;
    }
}

extern "C" __global__ void batch_norm_statistics(
    const T* partial, T* mean, T* var, T* unbiased, int rows, int columns, int parts
) {
    __shared__ int counts[MOST_THREADS];
    __shared__ T means[MOST_THREADS];
    __shared__ T squares[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Spread own = {0, 0, 0};
    if (c < columns)
        for (int p = threadIdx.y; p < parts; p += blockDim.y) {
            const i64 plane = (i64)parts * columns, at = (i64)p * columns + c;
            const Spread part = {(int)partial[at], partial[plane + at], partial[2 * plane + at]};
            own = joined(own, part);
        }
    own = joined_down(own, counts, means, squares);
    if (threadIdx.y == 0 && c < columns) {
        mean[c] = own.mean;
        var[c] = own.squares / (T)rows;
        unbiased[c] = own.squares / (T)(rows > 1 ? rows - 1 : rows);
    }
}

extern "C" __global__ void batch_norm_apply(
    const T* x, const T* gamma, const T* beta, const T* mean, const T* var, T* y, int rows, int columns, T epsilon
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        y[i] = (x[i] - mean[c]) * (gamma[c] / sqrt(var[c] + epsilon)) + beta[c];
    }
}

// partial: (2, parts, columns), of dy x_hat and of dy.
extern "C" __global__ void batch_norm_dparams(
    const T* x, const T* mean, const T* var, const T* dy, T* partial, int rows, int columns, T epsilon
) {
    __shared__ T space[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    T product = 0, plain = 0;
    if (c < columns) {
        const T middle = mean[c], inverse = (T)1 / sqrt(var[c] + epsilon);
        for (int r = blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += gridDim.y * blockDim.y) {
            const i64 i = (i64)r * columns + c;
            product += (x[i] - middle) * inverse * dy[i];
            plain += dy[i];
        }
    }
    product = sum_down(product, space);
    plain = sum_down(plain, space);
    if (threadIdx.y == 0 && c < columns) {
        const i64 at = (i64)blockIdx.y * columns + c;
        partial[at] = product;
        partial[(i64)gridDim.y * columns + at] = plain;
    }
}

extern "C" __global__ void batch_norm_dparams_sum(const T* partial, T* dgamma, T* dbeta, int columns, int parts) {
    __shared__ T space[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    T product = 0, plain = 0;
    if (c < columns)
        for (int p = threadIdx.y; p < parts; p += blockDim.y) {
            product += partial[(i64)p * columns + c];
            plain += partial[((i64)parts + p) * columns + c];
        }
    product = sum_down(product, space);
    plain = sum_down(plain, space);
    if (threadIdx.y == 0 && c < columns) {
        dgamma[c] = product;
        dbeta[c] = plain;
    }
}

extern "C" __global__ void batch_norm_dx(
    const T* x, const T* gamma, const T* mean, const T* var, const T* dgamma, const T* dbeta, const T* dy, T* dx,
    int rows, int columns, T epsilon
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        const T inverse = (T)1 / sqrt(var[c] + epsilon);
        const T product = (x[i] - mean[c]) * (inverse * dgamma[c] / (T)rows);
        dx[i] = (dy[i] - product - dbeta[c] / (T)rows) * (inverse * gamma[c]);
    }
}

// device: see left_out.
extern "C" __global__ void batch_norm_running(
    const T* mean, const T* unbiased, T* running_mean, T* running_var, int columns, T keep, T share,
    const double* device
) {
    if (left_out(device)) return;
    EACH(c, columns) {
        running_mean[c] = running_mean[c] * keep + mean[c] * share;
        running_var[c] = running_var[c] * keep + unbiased[c] * share;
    }
}

extern "C" __global__ void fold_weights(
    const T* w, const T* gamma, const T* var, T* folded, int rows, int columns, T epsilon
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        folded[i] = w[i] * (gamma[c] / sqrt(var[c] + epsilon));
    }
}

// biased: has the convolution a bias, b?
extern "C" __global__ void fold_shift(
    const T* gamma, const T* beta, const T* mean, const T* var, const T* b, T* shift, int columns, T epsilon, int biased
) {
    EACH(c, columns) {
        const T before = biased ? b[c] - mean[c] : -mean[c];
        shift[c] = before * (gamma[c] / sqrt(var[c] + epsilon)) + beta[c];
    }
}

// gathered: (ranks, 1 + 2 columns), the samples of each, its means and variances; per_sample values of each sample.
extern "C" __global__ void batch_norm_merge(
    const T* gathered, T* mean, T* var, T* unbiased, int ranks, int columns, int per_sample
) {
    EACH(c, columns) {
        const i64 width = 1 + 2 * (i64)columns;
        T total = 0, sum = 0, squares = 0;
        for (int k = 0; k < ranks; ++k) {
            total += gathered[k * width];
            sum += gathered[k * width] * gathered[k * width + 1 + c];
        }
        const T middle = sum / total;
        for (int k = 0; k < ranks; ++k) {
            const T apart = gathered[k * width + 1 + c] - middle;
            squares += gathered[k * width] * (apart * apart + gathered[k * width + 1 + columns + c]);
        }
        const T rows = total * (T)per_sample;
        mean[c] = middle;
        var[c] = squares / total;
        unbiased[c] = rows > 1 ? squares / total * (rows / (rows - 1)) : squares / total;
    }
}

// This rank's share of the sums over all: gathered (ranks, 1 + 2 columns).
extern "C" __global__ void batch_norm_parts(
    const T* gathered, T* dgamma, T* dbeta, int ranks, int columns, int samples
) {
    EACH(c, columns) {
        const i64 width = 1 + 2 * (i64)columns;
        T total = 0, product = 0, plain = 0;
        for (int k = 0; k < ranks; ++k) {
            total += gathered[k * width];
            product += gathered[k * width + 1 + c];
            plain += gathered[k * width + 1 + columns + c];
        }
        dgamma[c] = product * ((T)samples / total);
        dbeta[c] = plain * ((T)samples / total);
    }
}
