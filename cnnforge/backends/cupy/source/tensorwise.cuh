// Updates that see each tensor by itself: LAMB needs lengths, Muon matrix products. device: see left_out.

#include "cells.cuh"
#include "step.cuh"

// LAMB. pieces: (pieces, 3), where each begins and ends and which tensor it is of: a block has a piece.

// mean / c1 / (sqrt(square / c2) + epsilon) + decay p
__device__ inline T lamb_step(T p, T mean, T square, T c1, T root, T epsilon, T decay) {
    return mean / (sqrt(square) / root + epsilon) / c1 + p * decay;
}

// partial: (2, pieces), squares of parameters and of steps.
extern "C" __global__ void lamb_moments(
    const T* params, const T* sums, const double* step, T* mean, T* square, const i64* pieces, T* partial, T new1,
    T beta2, T new2, T epsilon, T decay, const double* device
) {
    if (left_out(device)) return;
    __shared__ T space[MOST_THREADS];
    const T inv_n = (T)step[INV_N], c1 = (T)step[C1], root = (T)sqrt(step[C2]);
    const i64 end = pieces[3 * blockIdx.x + 1];
    T weights = 0, steps = 0;
    for (i64 i = pieces[3 * blockIdx.x] + threadIdx.x; i < end; i += blockDim.x) {
        follow_moments(sums[i] * inv_n, mean + i, square + i, new1, beta2, new2);
        const T u = lamb_step(params[i], mean[i], square[i], c1, root, epsilon, decay);
        weights += params[i] * params[i];
        steps += u * u;
    }
    weights = block_sum(weights, space);
    steps = block_sum(steps, space);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = weights;
        partial[gridDim.x + blockIdx.x] = steps;
    }
}

// trust: (tensors,), how long the parameters are beside the step. firsts: the first piece of each, and their number.
extern "C" __global__ void lamb_trust(const T* partial, const i64* firsts, T* trust, int tensors, int pieces) {
    EACH(t, tensors) {
        double weights = 0, steps = 0;
        for (i64 p = firsts[t]; p < firsts[t + 1]; ++p) {
            weights += (double)partial[p];
            steps += (double)partial[pieces + p];
        }
        trust[t] = weights == 0 || steps == 0 ? (T)1 : (T)(sqrt(weights) / sqrt(steps));
    }
}

extern "C" __global__ void lamb_update(
    T* params, const double* step, const T* mean, const T* square, const i64* pieces, const T* trust, double rate,
    T epsilon, T decay, const double* device
) {
    if (left_out(device)) return;
    const i64 end = pieces[3 * blockIdx.x + 1];
    const T c1 = (T)step[C1], root = (T)sqrt(step[C2]);
    const T far = (T)(step[LR] * rate * (double)trust[pieces[3 * blockIdx.x + 2]]);
    for (i64 i = pieces[3 * blockIdx.x] + threadIdx.x; i < end; i += blockDim.x)
        params[i] -= lamb_step(params[i], mean[i], square[i], c1, root, epsilon, decay) * far;
}

// Muon.

// mean += new (g - mean); x becomes what is made orthogonal.
extern "C" __global__ void muon_mean(
    const T* sums, const double* step, T* mean, T* x, i64 n, T fresh, int nesterov, const double* device
) {
    if (left_out(device)) return;
    const T inv_n = (T)step[INV_N];
    EACH(i, n) {
        const T g = sums[i] * inv_n, m = mean[i] + (g - mean[i]) * fresh;
        mean[i] = m;
        x[i] = nesterov ? m + (g - m) * fresh : m;
    }
}

// One block: the length of x by its parts' squares, at least epsilon.
extern "C" __global__ void muon_length(const T* partial, T* length, int parts, double epsilon) {
    __shared__ T space[MOST_THREADS];
    T sum = 0;
    for (int p = threadIdx.x; p < parts; p += blockDim.x) sum += partial[p];
    sum = block_sum(sum, space);
    const double found = sqrt((double)sum);
    if (threadIdx.x == 0) *length = (T)(found > epsilon ? found : epsilon);
}

extern "C" __global__ void divide_by(T* x, const T* length, i64 n) {
    EACH(i, n) x[i] /= *length;
}

// y = a x + b y
extern "C" __global__ void combine(const T* x, T* y, i64 n, T a, T b) {
    EACH(i, n) y[i] = a * x[i] + b * y[i];
}

extern "C" __global__ void muon_update(
    T* params, const double* step, const T* x, i64 n, double rate, double decay, double factor, const double* device
) {
    if (left_out(device)) return;
    const double lr = step[LR] * rate;
    const T keep = (T)(1 - lr * decay), far = (T)(lr * factor);
    EACH(i, n) params[i] = params[i] * keep - x[i] * far;
}
