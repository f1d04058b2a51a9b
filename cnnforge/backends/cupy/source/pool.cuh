// Pooling: x (N, H, W, C), y and winner (N, OH, OW, C). A thread has one number of what is written.

#include "cells.cuh"


// The number of the position that won, counted along the rows of the window: the first of several equal ones.
#define MAX_POOL(W) \
    EACH_CELL(r, c, rows, columns) { \
        const int ox = r % ow, oy = r / ow % oh, n = r / ow / oh; \
        const int y0 = oy * down - top, x0 = ox * right - left; \
        P best = 0; \
        int won = -1; \
        for (int i = 0; i < kernel_h; ++i) \
            for (int j = 0; j < kernel_w; ++j) { \
                const int iy = y0 + i, ix = x0 + j; \
                if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue; \
                const P v = x[(((i64)n * h + iy) * w + ix) * columns + c]; \
                if (won < 0 || v > best || (v != v && best == best)) { \
                    best = v; \
                    won = i * kernel_w + j; \
                } \
            } \
        y[(i64)r * columns + c] = best; \
        winner[(i64)r * columns + c] = (W)won; \
    }
#define MAX_POOL_DX \
    EACH_CELL(r, c, rows, columns) { \
        const int ix = r % w, iy = r / w % h, n = r / w / h; \
        P sum = 0; \
        for (int i = 0; i < kernel_h; ++i) { \
            const int from_top = iy + top - i, oy = from_top / down; \
            if (from_top < 0 || from_top % down != 0 || oy >= oh) continue; \
            for (int j = 0; j < kernel_w; ++j) { \
                const int from_left = ix + left - j, ox = from_left / right; \
                if (from_left < 0 || from_left % right != 0 || ox >= ow) continue; \
                const i64 at = (((i64)n * oh + oy) * ow + ox) * columns + c; \
                if ((int)winner[at] == i * kernel_w + j) sum += dy[at]; \
            } \
        } \
        dx[(i64)r * columns + c] = sum; \
    }

extern "C" __global__ void max_pool2d_uint8(
    const T* x, T* y, u8* winner, int rows, int columns, int h, int w, int oh, int ow, int kernel_h, int kernel_w, int down, int right, int top,
    int left
) {
    MAX_POOL(u8)
}

extern "C" __global__ void max_pool2d_dx_uint8(
    const u8* winner, const T* dy, T* dx, int rows, int columns, int h, int w, int oh, int ow, int kernel_h, int kernel_w, int down, int right, int top,
    int left
) {
    MAX_POOL_DX
}

extern "C" __global__ void max_pool2d_int32(
    const T* x, T* y, int* winner, int rows, int columns, int h, int w, int oh, int ow, int kernel_h, int kernel_w, int down, int right, int top,
    int left
) {
    MAX_POOL(int)
}

extern "C" __global__ void max_pool2d_dx_int32(
    const int* winner, const T* dy, T* dx, int rows, int columns, int h, int w, int oh, int ow, int kernel_h, int kernel_w, int down, int right, int top,
    int left
) {
    MAX_POOL_DX
}

// 1 / positions that count along one axis of window number ``out``.
__device__ inline P share(int out, int size, int kernel, int stride, int before, int after, int with_padding) {
    const int low = with_padding ? 0 : before, high = with_padding ? before + size + after : before + size;
    const int start = out * stride, end = start + kernel;
    return (P)1 / (P)((end < high ? end : high) - (start > low ? start : low));
}

extern "C" __global__ void average_pool2d(
    const T* x, T* y, int rows, int columns, int h, int w, int oh, int ow, int kernel_h, int kernel_w, int down, int right, int top,
    int left, int bottom, int right_pad, int with_padding
) {
    EACH_CELL(r, c, rows, columns) {
        const int ox = r % ow, oy = r / ow % oh, n = r / ow / oh;
        const int y0 = oy * down - top, x0 = ox * right - left;
        P sum = 0;
        for (int iy = y0 > 0 ? y0 : 0; iy < y0 + kernel_h && iy < h; ++iy)
            for (int ix = x0 > 0 ? x0 : 0; ix < x0 + kernel_w && ix < w; ++ix)
                sum += x[(((i64)n * h + iy) * w + ix) * columns + c];
        y[(i64)r * columns + c] = sum * share(oy, h, kernel_h, down, top, bottom, with_padding)
                                   * share(ox, w, kernel_w, right, left, right_pad, with_padding);
    }
}

extern "C" __global__ void average_pool2d_dx(
    const T* dy, T* dx, int rows, int columns, int h, int w, int oh, int ow, int kernel_h, int kernel_w, int down, int right, int top,
    int left, int bottom, int right_pad, int with_padding
) {
    EACH_CELL(r, c, rows, columns) {
        const int ix = r % w, iy = r / w % h, n = r / w / h;
        P sum = 0;
        for (int i = 0; i < kernel_h; ++i) {
            const int from_top = iy + top - i, oy = from_top / down;
            if (from_top < 0 || from_top % down != 0 || oy >= oh) continue;
            const P row = share(oy, h, kernel_h, down, top, bottom, with_padding);
            for (int j = 0; j < kernel_w; ++j) {
                const int from_left = ix + left - j, ox = from_left / right;
                if (from_left < 0 || from_left % right != 0 || ox >= ow) continue;
                sum += dy[(((i64)n * oh + oy) * ow + ox) * columns + c] * row
                       * share(ox, w, kernel_w, right, left, right_pad, with_padding);
            }
        }
        dx[(i64)r * columns + c] = sum;
    }
}
