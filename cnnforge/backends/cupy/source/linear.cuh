#include "gemm.cuh"

// Products of matrices. b's element (k, j) lies at k * down + j * across.

extern "C" __global__ void product(
    const T* a, const T* b, T* out, i64 rows, int columns, i64 depth, i64 down, i64 across) {
    LEFT; RIGHT;
    gemm(rows, columns, 0, depth, Left<false>{a, rows, depth}, Right{b, down, across}, Result{out, columns}, left, right);
}

// a is (depth, rows).
extern "C" __global__ void product_turned(
    const T* a, const T* b, T* out, i64 rows, int columns, i64 depth, i64 down, i64 across) {
    LEFT; RIGHT;
    gemm(rows, columns, 0, depth, Left<true>{a, rows, depth}, Right{b, down, across}, Result{out, columns}, left, right);
}

// out[i] = the sum of `parts` arrays of n, the first first.
extern "C" __global__ void sum_parts(const P* part, T* out, i64 n, int parts) {
    EACH(i, n) {
        P sum = part[i];
        for (int p = 1; p < parts; p++) sum += part[p * n + i];
        out[i] = sum;
    }
}
