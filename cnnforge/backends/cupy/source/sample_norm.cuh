// Group and layer normalisation, and the local one across channels: x, y (rows, columns).
// Means first, then distances from them: never E[x^2] - E[x]^2, which cancels.

#include "cells.cuh"

// The numbers that a block of group normalisation has: those of one group of one sample. e counts them, i is where one
// lies in x, c its channel. blockIdx.x = sample groups + group.
struct Group {
    i64 start;
    int first, size, count, columns;
    __device__ int channel(int e) const { return first + e % size; }
    __device__ i64 at(int e) const { return start + (i64)(e / size) * columns + e % size; }
};

__device__ inline Group group_of(int positions, int columns, int groups) {
    Group g;
    g.size = columns / groups;
    g.first = blockIdx.x % groups * g.size;
    g.start = (i64)(blockIdx.x / groups) * positions * columns + g.first;
    g.count = positions * g.size;
    g.columns = columns;
    return g;
}

// mean, inverse: (samples, groups)
extern "C" __global__ void group_norm(
    const T* x, const P* gamma, const P* beta, T* y, P* mean, P* inverse, int positions, int columns, int groups,
    P epsilon
) {
    __shared__ P space[MOST_THREADS];
    const Group g = group_of(positions, columns, groups);
    P sum = 0;
    for (int e = threadIdx.x; e < g.count; e += blockDim.x) sum += x[g.at(e)];
    const P middle = sum_across(sum, space) / (P)g.count;
    P squares = 0;
    for (int e = threadIdx.x; e < g.count; e += blockDim.x) {
        const P apart = x[g.at(e)] - middle;
        squares += apart * apart;
    }
    const P factor = (P)1 / sqrt(sum_across(squares, space) / (P)g.count + epsilon);
    for (int e = threadIdx.x; e < g.count; e += blockDim.x) {
        const int c = g.channel(e);
        y[g.at(e)] = (x[g.at(e)] - middle) * (factor * gamma[c]) + beta[c];
    }
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = middle;
        inverse[blockIdx.x] = factor;
    }
}

extern "C" __global__ void group_norm_dx(
    const T* x, const P* gamma, const P* mean, const P* inverse, const T* dy, T* dx, int positions, int columns,
    int groups
) {
    __shared__ P space[MOST_THREADS];
    const Group g = group_of(positions, columns, groups);
    const P middle = mean[blockIdx.x], factor = inverse[blockIdx.x];
    P plain = 0, product = 0;
    for (int e = threadIdx.x; e < g.count; e += blockDim.x) {
        const i64 i = g.at(e);
        const P d = dy[i] * gamma[g.channel(e)];
        plain += d;
        product += d * ((x[i] - middle) * factor);
    }
    plain = sum_across(plain, space) / (P)g.count;
    product = sum_across(product, space) / (P)g.count;
    for (int e = threadIdx.x; e < g.count; e += blockDim.x) {
        const i64 i = g.at(e);
        const P h = (x[i] - middle) * factor;
        dx[i] = (dy[i] * gamma[g.channel(e)] - plain - h * product) * factor;
    }
}

extern "C" __global__ void group_norm_dgamma(
    const T* x, const P* mean, const P* inverse, const T* dy, P* partial, int rows, int columns, int positions,
    int groups
) {
    const int size = columns / groups;
    COLUMN_SUM((x[i] - mean[(i64)(r / positions) * groups + c / size]) * inverse[(i64)(r / positions) * groups + c / size]
               * dy[i])
}

// Layer normalisation: threadIdx.y has a row, which threads of all threadIdx.x share.
extern "C" __global__ void layer_norm(
    const T* x, const P* gamma, const P* beta, T* y, P* mean, P* inverse, int rows, int columns, P epsilon
) {
    ROW
    P sum = 0, squares = 0;
    EACH_OF_ROW(c) sum += x[start + c];
    const P middle = sum_across(sum, space) / (P)columns;
    EACH_OF_ROW(c) {
        const P apart = x[start + c] - middle;
        squares += apart * apart;
    }
    const P factor = (P)1 / sqrt(sum_across(squares, space) / (P)columns + epsilon);
    EACH_OF_ROW(c) y[start + c] = (x[start + c] - middle) * factor * gamma[c] + beta[c];
    if (here && threadIdx.x == 0) {
        mean[r] = middle;
        inverse[r] = factor;
    }
}

extern "C" __global__ void layer_norm_dx(
    const T* x, const P* gamma, const P* mean, const P* inverse, const T* dy, T* dx, int rows, int columns
) {
    ROW
    const P middle = here ? mean[r] : (P)0, factor = here ? inverse[r] : (P)0;
    P plain = 0, product = 0;
    EACH_OF_ROW(c) {
        const P d = dy[start + c] * gamma[c];
        plain += d;
        product += d * ((x[start + c] - middle) * factor);
    }
    plain = sum_across(plain, space) / (P)columns;
    product = sum_across(product, space) / (P)columns;
    EACH_OF_ROW(c) {
        const P h = (x[start + c] - middle) * factor;
        dx[start + c] = (dy[start + c] * gamma[c] - plain - h * product) * factor;
    }
}

extern "C" __global__ void layer_norm_dgamma(
    const T* x, const P* mean, const P* inverse, const T* dy, P* partial, int rows, int columns
) {
    COLUMN_SUM((x[i] - mean[r]) * inverse[r] * dy[i])
}

// base = k + share * sum of x^2 over the channels from c - before to c + after; y = x base^-beta.
extern "C" __global__ void lrn(
    const T* x, T* y, P* base, int rows, int columns, int before, int after, P share, P beta, P k
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 start = (i64)r * columns;
        P sum = 0;
        for (int o = c > before ? c - before : 0; o <= c + after && o < columns; ++o) sum += x[start + o] * x[start + o];
        const P below = sum * share + k;
        base[start + c] = below;
        y[start + c] = x[start + c] * pow(below, -beta);
    }
}

// share = dy x base^-(beta + 1)
extern "C" __global__ void lrn_share(const T* x, const P* base, const T* dy, P* share, i64 n, P beta) {
    EACH(i, n) share[i] = dy[i] * pow(base[i], -beta) * x[i] / base[i];
}

// dx = dy base^-beta - factor x * sum of the shares of the channels in whose window this one lies.
extern "C" __global__ void lrn_dx(
    const T* x, const P* base, const T* dy, const P* share, T* dx, int rows, int columns, int before, int after,
    P factor, P beta
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 start = (i64)r * columns;
        P sum = 0;
        for (int o = c > after ? c - after : 0; o <= c + before && o < columns; ++o) sum += share[start + o];
        dx[start + c] = dy[start + c] * pow(base[start + c], -beta) - sum * x[start + c] * factor;
    }
}
