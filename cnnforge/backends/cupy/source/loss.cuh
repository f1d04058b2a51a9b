// Softmax, and losses with their last activation folded in. threadIdx.y has a row, which threads of all threadIdx.x
// share: of z (rows, columns), a sample's scores, or all of a sample's outputs where each is by itself.

#include "cells.cuh"

// The largest of z's row, the first of equal ones, and the sum of e^(z - it).
#define LARGEST_AND_SUM \
    __shared__ int places[MOST_THREADS]; \
    T best = here ? z[start] : (T)0; \
    int where = 0; \
    EACH_OF_ROW(c) if (z[start + c] > best) { \
        best = z[start + c]; \
        where = c; \
    } \
    best = max_across(best, where, space, places); \
    T sum = 0; \
    EACH_OF_ROW(c) sum += exp(z[start + c] - best); \
    sum = sum_across(sum, space);

extern "C" __global__ void softmax(const T* z, T* y, int rows, int columns) {
    ROW
    LARGEST_AND_SUM
    EACH_OF_ROW(c) y[start + c] = exp(z[start + c] - best) / sum;
}

extern "C" __global__ void softmax_dx(const T* y, const T* dy, T* dx, int rows, int columns) {
    ROW
    T product = 0;
    EACH_OF_ROW(c) product += dy[start + c] * y[start + c];
    product = sum_across(product, space);
    EACH_OF_ROW(c) dx[start + c] = (dy[start + c] - product) * y[start + c];
}

// Means of rows: y (rows,). What the losses below say of every row, where a sample has several.
extern "C" __global__ void row_means(const T* x, T* y, int rows, int columns) {
    ROW
    T sum = 0;
    EACH_OF_ROW(c) sum += x[start + c];
    sum = sum_across(sum, space);
    if (here && threadIdx.x == 0) y[r] = sum / (T)columns;
}

extern "C" __global__ void softmax_cross_entropy(
    const T* z, const i64* labels, T* loss, T* hits, int rows, int columns
) {
    ROW
    LARGEST_AND_SUM
    if (here && threadIdx.x == 0) {
        const i64 label = labels[r];
        const T picked = label >= 0 && label < columns ? z[start + label] - best : (T)0;
        loss[r] = log(sum) - picked;
        hits[r] = where == label ? (T)1 : (T)0;
    }
}

// divisor: rows of a sample
extern "C" __global__ void softmax_cross_entropy_dz(
    const T* z, const i64* labels, T* dz, int rows, int columns, int divisor
) {
    ROW
    LARGEST_AND_SUM
    const i64 label = here ? labels[r] : -1;
    EACH_OF_ROW(c) dz[start + c] = (exp(z[start + c] - best) / sum - (c == label ? (T)1 : (T)0)) / (T)divisor;
}

extern "C" __global__ void soft_cross_entropy(
    const T* z, const T* q, const i64* labels, T* loss, T* hits, int rows, int columns
) {
    ROW
    LARGEST_AND_SUM
    const T log_sum = log(sum);
    T total = 0;
    EACH_OF_ROW(c) total += q[start + c] * (log_sum - (z[start + c] - best));
    total = sum_across(total, space);
    if (here && threadIdx.x == 0) {
        loss[r] = total;
        hits[r] = where == labels[r] ? (T)1 : (T)0;
    }
}

extern "C" __global__ void soft_cross_entropy_dz(
    const T* z, const T* q, T* dz, int rows, int columns, int divisor
) {
    ROW
    LARGEST_AND_SUM
    T total = 0;
    EACH_OF_ROW(c) total += q[start + c];
    total = sum_across(total, space);
    EACH_OF_ROW(c) dz[start + c] = (exp(z[start + c] - best) / sum * total - q[start + c]) / (T)divisor;
}

// yes = pos_weight t', no = 1 - t', t' = keep t + rest. Without smoothing and weight it is the plain cross-entropy.
extern "C" __global__ void weighted_sigmoid_cross_entropy(
    const T* z, const T* t, T* loss, T* hits, int rows, int columns, T keep, T rest, T pos_weight
) {
    ROW
    T sum = 0, right = 0;
    EACH_OF_ROW(c) {
        const T v = z[start + c], wanted = t[start + c], smooth = wanted * keep + rest;
        const T yes = smooth * pos_weight, no = (T)1 - smooth;
        // The straight part first: it is 0 for a right answer, and a small loss keeps its digits.
        sum += at_least(v, 0) * no - at_most(v, 0) * yes + log1p(exp(-fabs(v))) * (yes + no);
        right += (v > 0) == (wanted > (T)0.5) ? (T)1 : (T)0;
    }
    sum = sum_across(sum, space);
    right = sum_across(right, space);
    if (here && threadIdx.x == 0) {
        loss[r] = sum / (T)columns;
        hits[r] = right / (T)columns;
    }
}

// divisor: outputs of a sample
extern "C" __global__ void weighted_sigmoid_cross_entropy_dz(
    const T* z, const T* t, T* dz, i64 count, int divisor, T keep, T rest, T pos_weight
) {
    EACH(i, count) {
        const T smooth = t[i] * keep + rest, yes = smooth * pos_weight, no = (T)1 - smooth;
        dz[i] = (sigmoid_of(z[i]) * (yes + no) - yes) / (T)divisor;
    }
}

extern "C" __global__ void mse(const T* y, const T* target, T* loss, T* hits, int rows, int columns) {
    ROW
    T sum = 0;
    EACH_OF_ROW(c) {
        const T apart = y[start + c] - target[start + c];
        sum += apart * apart;
    }
    sum = sum_across(sum, space);
    if (here && threadIdx.x == 0) {
        loss[r] = sum / (T)columns;
        hits[r] = 0;  // nothing is right or wrong here
    }
}

extern "C" __global__ void mse_dz(const T* y, const T* target, T* dz, i64 count, T factor) {
    EACH(i, count) dz[i] = (y[i] - target[i]) * factor;
}
