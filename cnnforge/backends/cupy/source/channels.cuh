// Several arrays into one, biases, and what else is done by channel. Matrices (rows, columns): a row per position, a
// column per channel.

#include "cells.cuh"

extern "C" __global__ void add(const T* x, const T* other, T* y, i64 n) {
    EACH(i, n) y[i] = x[i] + other[i];
}

extern "C" __global__ void multiply(const T* x, const T* other, T* y, i64 n) {
    EACH(i, n) y[i] = x[i] * other[i];
}

extern "C" __global__ void scale(const T* x, T* y, i64 n, P factor) {
    EACH(i, n) y[i] = x[i] * factor;
}

extern "C" __global__ void bias(const T* x, const P* b, T* y, int rows, int columns) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        y[i] = x[i] + b[c];
    }
}

extern "C" __global__ void bias_db(const T* dy, P* partial, int rows, int columns) { COLUMN_SUM(dy[i]) }

extern "C" __global__ void prelu(const T* x, const P* alpha, T* y, int rows, int columns) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        const P v = x[i];
        y[i] = v > 0 ? v : v * alpha[c];
    }
}

extern "C" __global__ void prelu_dx(const T* x, const P* alpha, const T* dy, T* dx, int rows, int columns) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        const P d = dy[i];
        dx[i] = x[i] > 0 ? d : d * alpha[c];
    }
}

extern "C" __global__ void prelu_dalpha(const T* x, const T* dy, P* partial, int rows, int columns) {
    COLUMN_SUM(at_most(x[i], 0) * dy[i])
}

// gate: (N, C); positions: rows of one sample.
extern "C" __global__ void scale_channels(
    const T* x, const T* gate, T* y, int rows, int columns, int positions
) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        y[i] = x[i] * gate[(i64)(r / positions) * columns + c];
    }
}

extern "C" __global__ void scale_channels_dgate(const T* x, const T* dy, P* partial, int rows, int columns) {
    COLUMN_SUM(x[i] * dy[i])
}

// The same where there is one part: it is the sum.
extern "C" __global__ void scale_channels_dgate_at_once(
    const T* x, const T* dy, T* dgate, int rows, int columns
) {
    T* const partial = dgate;
    COLUMN_SUM(x[i] * dy[i])
}

// What casts a half type to what it is computed in, and the other way.
extern "C" __global__ void widen(const T* x, P* y, i64 n) {
    EACH(i, n) y[i] = x[i];
}

extern "C" __global__ void narrow(const P* x, T* y, i64 n) {
    EACH(i, n) y[i] = x[i];
}

// ``columns`` channels of x, from x_start on, to those of y from y_start on.
extern "C" __global__ void copy_channels(
    const T* x, T* y, int rows, int columns, int x_channels, int x_start, int y_channels, int y_start
) {
    EACH_CELL(r, c, rows, columns) {
        y[(i64)r * y_channels + y_start + c] = x[(i64)r * x_channels + x_start + c];
    }
}

// y (N, OH, OW, columns): every stride-th position of x (N, H, W, channels), then channels of zeros.
extern "C" __global__ void shortcut_pad(
    const T* x, T* y, int rows, int columns, int channels, int h, int w, int oh, int ow, int down, int right
) {
    EACH_CELL(r, c, rows, columns) {
        const int ox = r % ow, oy = r / ow % oh, n = r / ow / oh;
        const i64 from = (((i64)n * h + oy * down) * w + ox * right) * channels + c;
        y[(i64)r * columns + c] = c < channels ? x[from] : (T)0;
    }
}

// dx (N, H, W, columns) of dy (N, OH, OW, channels): 0 where no output looked.
extern "C" __global__ void shortcut_pad_dx(
    const T* dy, T* dx, int rows, int columns, int channels, int h, int w, int oh, int ow, int down, int right
) {
    EACH_CELL(r, c, rows, columns) {
        const int ix = r % w, iy = r / w % h, n = r / w / h;
        const bool seen = ix % right == 0 && iy % down == 0;
        const i64 from = (((i64)n * oh + iy / down) * ow + ix / right) * channels + c;
        dx[(i64)r * columns + c] = seen ? dy[from] : (T)0;
    }
}

// Channel g size + i goes to i groups + g.
extern "C" __global__ void channel_shuffle(const T* x, T* y, int rows, int columns, int groups) {
    const int size = columns / groups;
    EACH_CELL(r, c, rows, columns) {
        y[(i64)r * columns + c] = x[(i64)r * columns + c % groups * size + c / groups];
    }
}
