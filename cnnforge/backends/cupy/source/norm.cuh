// Batch normalisation: x, y (rows, columns), everything else (columns,).

#include "cells.cuh"
#include "step.cuh"

// What is known of some numbers: how many there are, their mean, their squared distances from it.
struct Spread {
    int count;
    P mean, squares;
};

// Of both together (Chan, Golub and LeVeque, 1983).
__device__ inline Spread joined(Spread a, Spread b) {
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    Spread s;
    s.count = a.count + b.count;
    const P apart = b.mean - a.mean, share = (P)b.count / (P)s.count;
    s.mean = a.mean + apart * share;
    s.squares = a.squares + b.squares + apart * apart * share * (P)a.count;
    return s;
}

// Of all threadIdx.y together, right in thread (x, 0). The arrays: MOST_THREADS elements of shared memory.
__device__ inline Spread joined_down(Spread own, int* counts, P* means, P* squares) {
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
extern "C" __global__ void batch_norm_spread(const T* x, P* partial, int rows, int columns) {
    __shared__ int counts[MOST_THREADS];
    __shared__ P means[MOST_THREADS];
    __shared__ P squares[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Spread own = {0, 0, 0};
    if (c < columns)
        for (int r = blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += gridDim.y * blockDim.y) {
            const P v = x[(i64)r * columns + c], from_old = v - own.mean;  // Welford, 1962
            own.count += 1;
            own.mean += from_old / (P)own.count;
            own.squares += from_old * (v - own.mean);
        }
    own = joined_down(own, counts, means, squares);
    if (threadIdx.y == 0 && c < columns) {
        const i64 plane = (i64)gridDim.y * columns, to = (i64)blockIdx.y * columns + c;
        partial[to] = (P)own.count;
        partial[plane + to] = own.mean;
        partial[2 * plane + to] = own.squares;
    }
}

extern "C" __global__ void batch_norm_statistics(
    const P* partial, P* mean, P* var, P* unbiased, int rows, int columns, int parts
) {
    __shared__ int counts[MOST_THREADS];
    __shared__ P means[MOST_THREADS];
    __shared__ P squares[MOST_THREADS];
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
        var[c] = own.squares / (P)rows;
        unbiased[c] = own.squares / (P)(rows > 1 ? rows - 1 : rows);
    }
}

extern "C" __global__ void batch_norm_apply(
    const T* x, const P* gamma, const P* beta, const P* mean, const P* var, T* y, int rows, int columns, P epsilon
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        y[i] = (x[i] - mean[c]) * (gamma[c] / sqrt(var[c] + epsilon)) + beta[c];
    }
}

// partial: (2, parts, columns), of dy x_hat and of dy.
extern "C" __global__ void batch_norm_dparams(
    const T* x, const P* mean, const P* var, const T* dy, P* partial, int rows, int columns, P epsilon
) {
    __shared__ P space[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    P product = 0, plain = 0;
    if (c < columns) {
        const P middle = mean[c], inverse = (P)1 / sqrt(var[c] + epsilon);
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

extern "C" __global__ void batch_norm_dparams_sum(const P* partial, P* dgamma, P* dbeta, int columns, int parts) {
    __shared__ P space[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    P product = 0, plain = 0;
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
    const T* x, const P* gamma, const P* mean, const P* var, const P* dgamma, const P* dbeta, const T* dy, T* dx,
    int rows, int columns, P epsilon
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        const P inverse = (P)1 / sqrt(var[c] + epsilon);
        const P product = (x[i] - mean[c]) * (inverse * dgamma[c] / (P)rows);
        dx[i] = (dy[i] - product - dbeta[c] / (P)rows) * (inverse * gamma[c]);
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
    const P* w, const P* gamma, const P* var, T* folded, int rows, int columns, P epsilon
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        folded[i] = w[i] * (gamma[c] / sqrt(var[c] + epsilon));
    }
}

// biased: has the convolution a bias, b?
extern "C" __global__ void fold_shift(
    const P* gamma, const P* beta, const P* mean, const P* var, const P* b, P* shift, int columns, P epsilon, int biased
) {
    EACH(c, columns) {
        const P before = biased ? b[c] - mean[c] : -mean[c];
        shift[c] = before * (gamma[c] / sqrt(var[c] + epsilon)) + beta[c];
    }
}

// gathered: (ranks, 1 + 2 columns), the samples of each, its means and variances; per_sample values of each sample.
extern "C" __global__ void batch_norm_merge(
    const P* gathered, P* mean, P* var, P* unbiased, int ranks, int columns, int per_sample
) {
    EACH(c, columns) {
        const i64 width = 1 + 2 * (i64)columns;
        P total = 0, sum = 0, squares = 0;
        for (int k = 0; k < ranks; ++k) {
            total += gathered[k * width];
            sum += gathered[k * width] * gathered[k * width + 1 + c];
        }
        const P middle = sum / total;
        for (int k = 0; k < ranks; ++k) {
            const P apart = gathered[k * width + 1 + c] - middle;
            squares += gathered[k * width] * (apart * apart + gathered[k * width + 1 + columns + c]);
        }
        const P rows = total * (P)per_sample;
        mean[c] = middle;
        var[c] = squares / total;
        unbiased[c] = rows > 1 ? squares / total * (rows / (rows - 1)) : squares / total;
    }
}

// This rank's share of the sums over all: gathered (ranks, 1 + 2 columns).
extern "C" __global__ void batch_norm_parts(
    const P* gathered, P* dgamma, P* dbeta, int ranks, int columns, int samples
) {
    EACH(c, columns) {
        const i64 width = 1 + 2 * (i64)columns;
        P total = 0, product = 0, plain = 0;
        for (int k = 0; k < ranks; ++k) {
            total += gathered[k * width];
            product += gathered[k * width + 1 + c];
            plain += gathered[k * width + 1 + columns + c];
        }
        dgamma[c] = product * ((P)samples / total);
        dbeta[c] = plain * ((P)samples / total);
    }
}
