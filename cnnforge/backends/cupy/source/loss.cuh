// Softmax, and losses with their last activation folded in. threadIdx.y has a row, which threads of all threadIdx.x
// share: of z (rows, columns), a sample's scores, or all of a sample's outputs where each is by itself.

#include "cells.cuh"

// The largest of z's row, the first of equal ones, and the sum of e^(z - it).
#define LARGEST_AND_SUM \
    __shared__ int places[MOST_THREADS]; \
    P best = here ? (P)z[start] : (P)0; \
    int where = 0; \
    EACH_OF_ROW(c) if (z[start + c] > best) { \
        best = z[start + c]; \
        where = c; \
    } \
    best = max_across(best, where, space, places); \
    P sum = 0; \
    EACH_OF_ROW(c) sum += exp(z[start + c] - best); \
    sum = sum_across(sum, space);

extern "C" __global__ void softmax(const T* z, T* y, int rows, int columns) {
    ROW
    LARGEST_AND_SUM
    EACH_OF_ROW(c) y[start + c] = exp(z[start + c] - best) / sum;
}

extern "C" __global__ void softmax_dx(const T* y, const T* dy, T* dx, int rows, int columns) {
    ROW
    P product = 0;
    EACH_OF_ROW(c) product += dy[start + c] * y[start + c];
    product = sum_across(product, space);
    EACH_OF_ROW(c) dx[start + c] = (dy[start + c] - product) * y[start + c];
}

// Means of rows: y (rows,). What the losses below say of every row, where a sample has several.
extern "C" __global__ void row_means(const P* x, P* y, int rows, int columns) {
    ROW
    P sum = 0;
    EACH_OF_ROW(c) sum += x[start + c];
    sum = sum_across(sum, space);
    if (here && threadIdx.x == 0) y[r] = sum / (P)columns;
}

extern "C" __global__ void softmax_cross_entropy(
    const T* z, const i64* labels, P* loss, P* hits, int rows, int columns
) {
    ROW
    LARGEST_AND_SUM
    if (here && threadIdx.x == 0) {
        const i64 label = labels[r];
        const P picked = label >= 0 && label < columns ? z[start + label] - best : (P)0;
        loss[r] = log(sum) - picked;
        hits[r] = where == label ? (P)1 : (P)0;
    }
}

// divisor: rows of a sample
extern "C" __global__ void softmax_cross_entropy_dz(
    const T* z, const i64* labels, T* dz, int rows, int columns, int divisor
) {
    ROW
    LARGEST_AND_SUM
    const i64 label = here ? labels[r] : -1;
    EACH_OF_ROW(c) dz[start + c] = (exp(z[start + c] - best) / sum - (c == label ? (P)1 : (P)0)) / (P)divisor;
}

extern "C" __global__ void soft_cross_entropy(
    const T* z, const T* q, const i64* labels, P* loss, P* hits, int rows, int columns
) {
    ROW
    LARGEST_AND_SUM
    const P log_sum = log(sum);
    P total = 0;
    EACH_OF_ROW(c) total += q[start + c] * (log_sum - (z[start + c] - best));
    total = sum_across(total, space);
    if (here && threadIdx.x == 0) {
        loss[r] = total;
        hits[r] = where == labels[r] ? (P)1 : (P)0;
    }
}

extern "C" __global__ void soft_cross_entropy_dz(
    const T* z, const T* q, T* dz, int rows, int columns, int divisor
) {
    ROW
    LARGEST_AND_SUM
    P total = 0;
    EACH_OF_ROW(c) total += q[start + c];
    total = sum_across(total, space);
    EACH_OF_ROW(c) dz[start + c] = (exp(z[start + c] - best) / sum * total - q[start + c]) / (P)divisor;
}

// yes = pos_weight t', no = 1 - t', t' = keep t + rest. Without smoothing and weight it is the plain cross-entropy.
extern "C" __global__ void weighted_sigmoid_cross_entropy(
    const T* z, const T* t, P* loss, P* hits, int rows, int columns, P keep, P rest, P pos_weight
) {
    ROW
    P sum = 0, right = 0;
    EACH_OF_ROW(c) {
        const P v = z[start + c], wanted = t[start + c], smooth = wanted * keep + rest;
        const P yes = smooth * pos_weight, no = (P)1 - smooth;
        // The straight part first: it is 0 for a right answer, and a small loss keeps its digits.
        sum += at_least(v, 0) * no - at_most(v, 0) * yes + log1p(exp(-fabs(v))) * (yes + no);
        right += (v > 0) == (wanted > (P)0.5) ? (P)1 : (P)0;
    }
    sum = sum_across(sum, space);
    right = sum_across(right, space);
    if (here && threadIdx.x == 0) {
        loss[r] = sum / (P)columns;
        hits[r] = right / (P)columns;
    }
}

// divisor: outputs of a sample
extern "C" __global__ void weighted_sigmoid_cross_entropy_dz(
    const T* z, const T* t, T* dz, i64 count, int divisor, P keep, P rest, P pos_weight
) {
    EACH(i, count) {
        const P smooth = t[i] * keep + rest, yes = smooth * pos_weight, no = (P)1 - smooth;
        dz[i] = (sigmoid_of(z[i]) * (yes + no) - yes) / (P)divisor;
    }
}

extern "C" __global__ void mse(const T* y, const T* target, P* loss, P* hits, int rows, int columns) {
    ROW
    P sum = 0;
    EACH_OF_ROW(c) {
        const P apart = y[start + c] - target[start + c];
        sum += apart * apart;
    }
    sum = sum_across(sum, space);
    if (here && threadIdx.x == 0) {
        loss[r] = sum / (P)columns;
        hits[r] = 0;  // nothing is right or wrong here
    }
}

extern "C" __global__ void mse_dz(const T* y, const T* target, T* dz, i64 count, P factor) {
    EACH(i, count) dz[i] = (y[i] - target[i]) * factor;
}
