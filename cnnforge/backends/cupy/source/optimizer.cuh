// Updates of the flat parameter buffer. sums: gradients, summed over the batch. rate: the range's factor on the learning
// rate. Scalars are worked out in double and rounded once. device: see left_out.

#include "cells.cuh"
#include "step.cuh"

// decay: coupled weight decay
__device__ inline T gradient(T sum, T inv_n, T p, T decay) {
    return decay == 0 ? sum * inv_n : sum * inv_n + p * decay;
}

extern "C" __global__ void sgd(
    T* params, const T* sums, const double* step, i64 n, T decay, double rate, const double* device
) {
    if (left_out(device)) return;
    const T inv_n = (T)step[INV_N], lr = (T)(step[LR] * rate);
    EACH(i, n) params[i] -= gradient(sums[i], inv_n, params[i], decay) * lr;
}

extern "C" __global__ void sgd_momentum(
    T* params, const T* sums, const double* step, T* velocity, i64 n, T decay, double rate, T momentum, int nesterov,
    const double* device
) {
    if (left_out(device)) return;
    const T inv_n = (T)step[INV_N], lr = (T)(step[LR] * rate);
    EACH(i, n) {
        const T g = gradient(sums[i], inv_n, params[i], decay), v = velocity[i] * momentum + g;
        velocity[i] = v;
        params[i] -= (nesterov ? g + v * momentum : v) * lr;
    }
}

// By the root of a running mean of squares.
__device__ inline T rmsprop_step(T g, T* square, T alpha, T rest, T epsilon) {
    const T s = *square * alpha + g * g * rest;
    *square = s;
    return g / (sqrt(s) + epsilon);
}

extern "C" __global__ void rmsprop(
    T* params, const T* sums, const double* step, T* square, i64 n, T decay, double rate, T alpha, T rest, T epsilon,
    const double* device
) {
    if (left_out(device)) return;
    const T inv_n = (T)step[INV_N], lr = (T)(step[LR] * rate);
    EACH(i, n) {
        const T g = gradient(sums[i], inv_n, params[i], decay);
        params[i] -= rmsprop_step(g, square + i, alpha, rest, epsilon) * lr;
    }
}

extern "C" __global__ void rmsprop_momentum(
    T* params, const T* sums, const double* step, T* square, T* velocity, i64 n, T decay, double rate, T alpha, T rest,
    T epsilon, T momentum, const double* device
) {
    if (left_out(device)) return;
    const T inv_n = (T)step[INV_N], lr = (T)(step[LR] * rate);
    EACH(i, n) {
        const T g = gradient(sums[i], inv_n, params[i], decay);
        const T v = velocity[i] * momentum + rmsprop_step(g, square + i, alpha, rest, epsilon);
        velocity[i] = v;
        params[i] -= v * lr;
    }
}

// decoupled: weight decay beside the step
extern "C" __global__ void adam(
    T* params, const T* sums, const double* step, T* mean, T* square, i64 n, T decay, double rate, T new1, T beta2,
    T new2, T epsilon, double decoupled, const double* device
) {
    if (left_out(device)) return;
    const double lr = step[LR] * rate;
    const T inv_n = (T)step[INV_N], keep = (T)(1 - lr * decoupled), root = (T)sqrt(step[C2]), far = (T)(lr / step[C1]);
    EACH(i, n) {
        const T p = params[i] * keep;
        follow_moments(gradient(sums[i], inv_n, p, decay), mean + i, square + i, new1, beta2, new2);
        params[i] = p - mean[i] / (sqrt(square[i]) / root + epsilon) * far;
    }
}

extern "C" __global__ void gather(const T* grads, T* gathered, i64 n) {
    EACH(i, n) gathered[i] += grads[i];
}

extern "C" __global__ void take(T* gathered, T* grads, i64 n) {
    EACH(i, n) {
        grads[i] = gathered[i];
        gathered[i] = 0;
    }
}

extern "C" __global__ void average(T* mean, const T* params, const double* step, i64 n, const double* device) {
    if (left_out(device)) return;
    const double keep = step[KEEP];
    const T share = (T)(1 - keep);
    EACH(i, n) mean[i] = keep == 0 ? params[i] : mean[i] + (params[i] - mean[i]) * share;
}

// partial: a number of each block, the squares of every gridDim.x-th piece of x.
extern "C" __global__ void squares(const T* x, T* partial, i64 n) {
    __shared__ T space[MOST_THREADS];
    T sum = 0;
    EACH(i, n) sum += x[i] * x[i];
    sum = block_sum(sum, space);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: the length of the mean gradient.
extern "C" __global__ void clip_length(const T* partial, const double* step, T* length, int parts) {
    __shared__ T space[MOST_THREADS];
    T sum = 0;
    for (int p = threadIdx.x; p < parts; p += blockDim.x) sum += partial[p];
    sum = block_sum(sum, space);
    if (threadIdx.x == 0) *length = (T)(sqrt((double)sum) * step[INV_N]);
}

// epsilon: what is added to the length before dividing by it
extern "C" __global__ void clip_norm(T* sums, const T* length, i64 n, double most, double epsilon) {
    const double factor = most / ((double)*length + epsilon);
    if (!(factor < 1)) return;
    EACH(i, n) sums[i] *= (T)factor;
}

extern "C" __global__ void clip_value(T* sums, const double* step, i64 n, double most) {
    const T bound = (T)(most / step[INV_N]);
    EACH(i, n) sums[i] = at_most(at_least(sums[i], -bound), bound);
}
