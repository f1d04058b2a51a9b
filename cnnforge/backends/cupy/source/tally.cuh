// What the device keeps of the losses, so that the host need not wait for them.

#include "cells.cuh"
#include "step.cuh"

// The sum of x (n,) in double, in one order. space: blockDim.x elements, a power of two.
__device__ inline double sum_of(const T* x, i64 n, double* space) {
    double sum = 0;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += (double)x[i];
    __syncthreads();
    space[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) space[threadIdx.x] += space[threadIdx.x + half];
    }
    __syncthreads();
    return space[0];
}

// One block. A step is numbered from 1: 0 is an evaluation, which no loss stops.
extern "C" __global__ void tally(const T* loss, const T* hits, const double* step, double* device, i64 n) {
    __shared__ double space[MOST_THREADS];
    const double losses = sum_of(loss, n, space), right = sum_of(hits, n, space);
    if (threadIdx.x) return;
    if (device[STOPPED] == 0 && step[STEP] != 0 && !isfinite(losses)) device[STOPPED] = step[STEP];
    if (device[STOPPED] != 0) {
        device[SKIP] = 1;
    } else {
        device[LOSS] += losses;
        device[HITS] += right;
    }
}
