#include "window.cuh"

// Convolution with one input channel per group: channel c feeds filters c m to c m + m - 1, m = F / C.

extern "C" __global__ void depthwise(const T* x, const T* w, T* y, i64 n, IMAGES, WINDOW) {
    Window g = GIVEN;
    EACH(i, n) {
        int f = i % F;
        i64 p = i / F;
        int left = p % OW * SW - PW, top = p / OW % OH * SH - PH;
        const T* picture = x + p / ((i64)OW * OH) * H * W * C + f / (F / C);
        P sum = 0;
        for (int a = 0; a < KH; a++) for (int b = 0; b < KW; b++) {
            int h = top + a * DH, v = left + b * DW;
            if (h >= 0 && h < H && v >= 0 && v < W) sum += picture[((i64)h * W + v) * C] * w[g.turned(a * KW + b) * F + f];
        }
        y[i] = sum;
    }
}

extern "C" __global__ void depthwise_dx(const T* dy, const T* w, T* dx, i64 n, IMAGES, WINDOW) {
    Window g = GIVEN;
    const int each = F / C;
    EACH(i, n) {
        int c = i % C;
        i64 p = i / C;
        int column = p % W + PW, row = p / W % H + PH;
        const T* picture = dy + p / ((i64)W * H) * OH * OW * F + c * each;
        P sum = 0;
        for (int a = 0; a < KH; a++) for (int b = 0; b < KW; b++) {
            int h = row - a * DH, v = column - b * DW;
            if (h < 0 || v < 0 || h % SH || v % SW || h / SH >= OH || v / SW >= OW) continue;
            const T* from = picture + ((i64)(h / SH) * OW + v / SW) * F;
            for (int k = 0; k < each; k++) sum += from[k] * w[g.turned(a * KW + b) * F + c * each + k];
        }
        dx[i] = sum;
    }
}

// part: (splits, KH, KW, 1, F). Grid: 32 filters, a position of the window, `positions` of dy; block: (32, 8), each row of
// threads takes every eighth position.
extern "C" __global__ void depthwise_dw(const T* x, const T* dy, P* part, i64 rows, i64 positions, IMAGES, WINDOW) {
    __shared__ P sums[8][32];
    Window g = GIVEN;
    const int f = blockIdx.x * 32 + threadIdx.x, tap = blockIdx.y;
    const int down = tap / KW * DH - PH, across = tap % KW * DW - PW;
    i64 first = blockIdx.z * positions, last = first + positions < rows ? first + positions : rows;
    P sum = 0;
    if (f < F) {
        for (i64 p = first + threadIdx.y; p < last; p += 8) {
            int h = p / OW % OH * SH + down, v = p % OW * SW + across;
            if (h < 0 || h >= H || v < 0 || v >= W) continue;
            sum += x[((p / ((i64)OW * OH) * H + h) * W + v) * C + f / (F / C)] * dy[p * F + f];
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && f < F) {
        for (int k = 1; k < 8; k++) sum += sums[k][threadIdx.x];
        part[((i64)blockIdx.z * KH * KW + g.turned(tap)) * F + f] = sum;
    }
}
