// Dropout, drawn by Philox4x32-10 as cnnforge/rng.py writes it down: to the bit.

#include "cells.cuh"
#include "step.cuh"

__device__ inline void philox(u32* c, u32 k0, u32 k1) {
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
        const u32 c1 = c[1], c3 = c[3];
        c[0] = (u32)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (u32)p1;
        c[2] = (u32)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

// mask: (samples, elements). Four elements have one block of the generator.
extern "C" __global__ void dropout_mask(
    const double* step, u8* mask, int samples, int elements, u64 threshold, u32 k0, u32 k1
) {
    const int blocks = (elements + 3) / 4;
    EACH(i, (i64)samples * blocks) {
        const int sample = (int)(i / blocks), block = (int)(i % blocks);
        const u64 draw = (u64)step[DRAW];
        u32 words[4] = {
            (u32)block, (u32)((u64)step[FIRST] + sample), (u32)draw, (u32)(draw >> 32)
        };
        philox(words, k0, k1);
        for (int j = 0; j < 4 && block * 4 + j < elements; ++j)
            mask[(i64)sample * elements + block * 4 + j] = words[j] >= threshold;
    }
}

// x, y: (rows = N A B, columns); mask: by its strides, 0 along axes for which one element stands.
extern "C" __global__ void dropout_apply(
    const T* x, const u8* mask, T* y, int rows, int columns, int a, int b, int of_n, int of_a, int of_b, int of_c,
    P factor
) {
    EACH_CELL(r, c, rows, columns) {
        const int k = r % b, j = r / b % a, n = r / b / a;
        const i64 i = (i64)r * columns + c, at = (i64)n * of_n + (i64)j * of_a + (i64)k * of_b + (i64)c * of_c;
        y[i] = x[i] * (mask[at] ? (P)1 : (P)0) * factor;
    }
}
