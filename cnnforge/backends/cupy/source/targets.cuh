// What labels ask for. weights: (columns,). What labels weigh, one block adds up: total (1,).

#include "cells.cuh"

extern "C" __global__ void label_weight(const i64* labels, const P* weights, P* total, int count, int columns) {
    __shared__ P space[MOST_THREADS];
    P sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        if (labels[i] >= 0 && labels[i] < columns) sum += weights[labels[i]];
    sum = sum_across(sum, space);
    if (threadIdx.x == 0) *total = sum;
}

// The weight of a class number that is written as a float.
__device__ inline P weight_of(const P* weights, P label, int columns) {
    return label >= 0 && label < columns && label == floor(label) ? weights[(int)label] : (P)0;
}

// labels: (count, 3), two class numbers and the share of the first
extern "C" __global__ void mixed_label_weight(const P* labels, const P* weights, P* total, int count, int columns) {
    __shared__ P space[MOST_THREADS];
    P sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const P* own = labels + (i64)3 * i;
        sum += weight_of(weights, own[0], columns) * own[2] + weight_of(weights, own[1], columns) * ((P)1 - own[2]);
    }
    sum = sum_across(sum, space);
    if (threadIdx.x == 0) *total = sum;
}

// factor: the weight of ``count`` labels -> what to multiply by, so that their mean weight is 1; 0 where there is none.
extern "C" __global__ void mean_weight(P* factor, int count) {
    *factor = *factor > 0 ? (P)count / *factor : (P)0;
}

// gathered: (ranks, 2), samples of each and the weight of their labels, of which a sample has ``per_sample``.
extern "C" __global__ void mean_weight_of_ranks(const P* gathered, P* factor, int ranks, int per_sample) {
    P labels = 0, weight = 0;
    for (int k = 0; k < ranks; ++k) {
        labels += gathered[2 * k] * (P)per_sample;
        weight += gathered[2 * k + 1];
    }
    *factor = weight > 0 ? labels / weight : (P)0;
}

// q = factor w (keep [c is the label] + rest); a label that is no class counts nothing. factor: 1 unless weighted.
extern "C" __global__ void class_targets(
    const i64* labels, const P* weights, const P* factor, P* q, int rows, int columns, P keep, P rest,
    int weighted
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 label = labels[r];
        const bool known = label >= 0 && label < columns;
        const P w = weighted ? weights[c] * *factor : weights[c];
        q[(i64)r * columns + c] = known ? w * ((c == label ? keep : (P)0) + rest) : (P)0;
    }
}

extern "C" __global__ void mixed_targets(
    const P* labels, const P* weights, const P* factor, P* q, i64* best, int rows, int columns, P keep, P rest,
    int weighted
) {
    EACH_CELL(r, c, rows, columns) {
        const P one = labels[3 * (i64)r], other = labels[3 * (i64)r + 1], share = labels[3 * (i64)r + 2];
        const P w = weighted ? weights[c] * *factor : weights[c];
        const P found = (one == (P)c ? share : (P)0) + (other == (P)c ? (P)1 - share : (P)0);
        q[(i64)r * columns + c] = w * (found * keep + rest);
        if (c == 0) best[r] = (i64)(share >= (P)0.5 ? one : other);
    }
}
