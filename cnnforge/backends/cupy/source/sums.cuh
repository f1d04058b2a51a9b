// The second step of sums of columns, whose first one is COLUMN_SUM of cells.cuh.

#include "cells.cuh"

// partial (samples, parts, columns) -> out (samples, columns). gridDim.y = samples.
extern "C" __global__ void add_parts(const T* partial, T* out, int parts, int columns) {
    __shared__ T space[MOST_THREADS];
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    T sum = 0;
    if (c < columns)
        for (int p = threadIdx.y; p < parts; p += blockDim.y)
            sum += partial[((i64)blockIdx.y * parts + p) * columns + c];
    sum = sum_down(sum, space);
    if (threadIdx.y == 0 && c < columns) out[(i64)blockIdx.y * columns + c] = sum;
}
