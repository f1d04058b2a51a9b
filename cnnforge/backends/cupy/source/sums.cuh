// The second step of sums of columns, whose first one is COLUMN_SUM of cells.cuh.

#include "cells.cuh"

// partial (samples, parts, columns) -> out (samples, columns). gridDim.y = samples.
#define ADD_PARTS \
    __shared__ P space[MOST_THREADS]; \
    const int c = blockIdx.x * blockDim.x + threadIdx.x; \
    P sum = 0; \
    if (c < columns) \
        for (int p = threadIdx.y; p < parts; p += blockDim.y) \
            sum += partial[((i64)blockIdx.y * parts + p) * columns + c]; \
    sum = sum_down(sum, space); \
    if (threadIdx.y == 0 && c < columns) out[(i64)blockIdx.y * columns + c] = sum;

extern "C" __global__ void add_parts(const P* partial, P* out, int parts, int columns) { ADD_PARTS }
extern "C" __global__ void add_parts_to_t(const P* partial, T* out, int parts, int columns) { ADD_PARTS }
