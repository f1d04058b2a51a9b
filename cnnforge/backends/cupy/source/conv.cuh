#include "gemm.cuh"
#include "window.cuh"

// Convolutions as matrix products whose left side is never written down (implicit GEMM): its elements are picked out of
// the picture as the tiles are loaded. blockIdx.z is the group; for dw, group * splits + part of the positions.

// Row: a position of y. Depth: a position of the window and a channel of the group.
struct Columns {
    static const bool ROWS_FIRST = false;
    struct Row { const T* picture; int top, side; };
    const T* x; Window g; int size, channel;
    __device__ Row row(i64 m) const {
        int at = m % ((i64)g.OH * g.OW);
        return {x + m / ((i64)g.OH * g.OW) * g.H * g.W * g.C, at / g.OW * g.SH - g.PH, at % g.OW * g.SW - g.PW};
    }
    __device__ T at(Row r, i64 k) const {
        int tap = (int)k / size, c = (int)k % size;
        int h = r.top + tap / g.KW * g.DH, w = r.side + tap % g.KW * g.DW;
        bool in = h >= 0 && h < g.H && w >= 0 && w < g.W;
        return in ? r.picture[((i64)h * g.W + w) * g.C + channel + c] : T(0);
    }
};

// Depth as that of Columns; column: a filter of the group.
struct Filters {
    const T* w; Window g; int size, filter;
    __device__ T at(i64 k, int j) const {
        int tap = (int)k / size, c = (int)k % size;
        return w[((i64)g.turned(tap) * size + c) * g.F + filter + j];
    }
};

struct Slice {
    T* data; i64 columns; int first;
    __device__ void put(i64 i, int j, P v) const { data[i * columns + first + j] = v; }
};

extern "C" __global__ void conv2d(const T* x, const T* w, T* y, i64 rows, IMAGES, WINDOW) {
    LEFT; RIGHT;
    Window g = GIVEN;
    int size = C / groups, filters = F / groups, group = blockIdx.z;
    gemm(rows, filters, 0, (i64)KH * KW * size, Columns{x, g, size, group * size}, Filters{w, g, size, group * filters},
         Slice{y, F, group * filters}, left, right);
}

// Row: a position of x. Depth: a position of the window and a filter of the group.
struct Arriving {
    static const bool ROWS_FIRST = false;
    struct Row { const T* picture; int h, w; };
    const T* dy; Window g; int filters, filter;
    __device__ Row row(i64 m) const {
        int at = m % ((i64)g.H * g.W);
        return {dy + m / ((i64)g.H * g.W) * g.OH * g.OW * g.F, at / g.W + g.PH, at % g.W + g.PW};
    }
    __device__ T at(Row r, i64 k) const {
        int tap = (int)k / filters, f = (int)k % filters;
        int h = r.h - tap / g.KW * g.DH, w = r.w - tap % g.KW * g.DW;
        if (h < 0 || w < 0 || h % g.SH || w % g.SW) return T(0);
        h /= g.SH; w /= g.SW;
        return h < g.OH && w < g.OW ? r.picture[((i64)h * g.OW + w) * g.F + filter + f] : T(0);
    }
};

// Depth as that of Arriving; column: a channel of the group.
struct FiltersTurned {
    const T* w; Window g; int size, filters, filter;
    __device__ T at(i64 k, int c) const {
        int tap = (int)k / filters, f = (int)k % filters;
        return w[((i64)g.turned(tap) * size + c) * g.F + filter + f];
    }
};

extern "C" __global__ void conv2d_dx(const T* dy, const T* w, T* dx, i64 rows, IMAGES, WINDOW) {
    LEFT; RIGHT;
    Window g = GIVEN;
    int size = C / groups, filters = F / groups, group = blockIdx.z;
    gemm(rows, size, 0, (i64)KH * KW * filters, Arriving{dy, g, filters, group * filters},
         FiltersTurned{w, g, size, filters, group * filters}, Slice{dx, C, group * size}, left, right);
}

// Columns, turned. Row: a position of the window and a channel. Depth: a position of y.
struct ColumnsTurned {
    static const bool ROWS_FIRST = true;
    struct Row { int down, across, channel; };
    const T* x; Window g; int size, channel;
    __device__ Row row(i64 k) const {
        int tap = (int)k / size;
        return {tap / g.KW * g.DH - g.PH, tap % g.KW * g.DW - g.PW, channel + (int)k % size};
    }
    __device__ T at(Row r, i64 m) const {
        int at = m % ((i64)g.OH * g.OW), h = at / g.OW * g.SH + r.down, w = at % g.OW * g.SW + r.across;
        bool in = h >= 0 && h < g.H && w >= 0 && w < g.W;
        return in ? x[((m / ((i64)g.OH * g.OW) * g.H + h) * g.W + w) * g.C + r.channel] : T(0);
    }
};

struct Weights {
    P* data; Window g; int size, filter;
    __device__ void put(i64 k, int j, P v) const {
        int tap = (int)k / size, c = (int)k % size;
        data[((i64)g.turned(tap) * size + c) * g.F + filter + j] = v;
    }
};

// part: (splits, KH, KW, C/groups, F), each summed over `positions` of the rows.
extern "C" __global__ void conv2d_dw(
    const T* x, const T* dy, P* part, i64 rows, int splits, i64 positions, IMAGES, WINDOW) {
    LEFT; RIGHT;
    Window g = GIVEN;
    int size = C / groups, filters = F / groups, group = blockIdx.z / splits, split = blockIdx.z % splits;
    i64 first = split * positions, last = first + positions < rows ? first + positions : rows;
    gemm((i64)KH * KW * size, filters, first, last, ColumnsTurned{x, g, size, group * size},
         Right{dy + group * filters, F, 1}, Weights{part + (i64)split * KH * KW * size * F, g, size, group * filters},
         left, right);
}
