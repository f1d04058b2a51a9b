#include "gemm.cuh"
#include "window.cuh"

// Convolutions as matrix products whose left side is never written down (implicit GEMM): its elements are picked out of
// the picture as the tiles are loaded. blockIdx.z is the group; for dw, group * splits + part of the positions.

// Row: a position of y. Depth: a position of the window and a channel of the group.
struct Columns {
    static const bool ROWS_FIRST = false;
    // from: where the window's first position would be, which may be outside
    struct Row { const T* from; int top, side; };
    struct Depth { int h, w; i64 offset; };
    const T* x; Window g; int size, channel;
    __device__ Row row(i64 m) const {
        const i64 image = m / ((i64)g.OH * g.OW);
        const int at = m - image * g.OH * g.OW, top = at / g.OW * g.SH - g.PH, side = at % g.OW * g.SW - g.PW;
        return {x + ((image * g.H + top) * g.W + side) * g.C + channel, top, side};
    }
    __device__ Depth depth(i64 k) const {
        const int tap = (int)k / size, h = tap / g.KW * g.DH, w = tap % g.KW * g.DW;
        return {h, w, ((i64)h * g.W + w) * g.C + (int)k % size};
    }
    __device__ T at(const Row& r, const Depth& d) const {
        const int h = r.top + d.h, w = r.side + d.w;
        return h >= 0 && h < g.H && w >= 0 && w < g.W ? r.from[d.offset] : T(0);
    }
};

// Depth as that of Columns; column: a filter of the group.
struct Filters {
    const T* data; Window g; int size;
    __device__ i64 start(i64 k) const { return ((i64)g.turned((int)k / size) * size + (int)k % size) * g.F; }
    __device__ i64 beside(int j) const { return j; }
};

struct Slice {
    T* data; i64 columns; int first; Tail tail;
    __device__ void put(i64 i, int j, P v) const {
        const i64 at = i * columns + first + j;
        data[at] = tail(v, at, first + j);
    }
};

extern "C" __global__ void __launch_bounds__(MEMBERS) conv2d(
    const T* x, const T* w, T* y, i64 rows, IMAGES, WINDOW AND_TAIL) {
    SPACE(Columns);
    Window g = GIVEN;
    int size = C / groups, filters = F / groups, group = blockIdx.z;
    gemm(rows, filters, 0, (i64)KH * KW * size, Columns{x, g, size, group * size}, Filters{w + group * filters, g, size},
         Slice{y, F, group * filters, TAIL}, GIVEN_SPACE);
}

// Row: a position of x. Depth: a position of the window and a filter of the group.
struct Arriving {
    static const bool ROWS_FIRST = false;
    struct Row { const T* picture; int h, w; };
    struct Depth { int h, w, f; };
    const T* dy; Window g; int filters, filter;
    __device__ Row row(i64 m) const {
        const i64 image = m / ((i64)g.H * g.W);
        const int at = m - image * g.H * g.W;
        return {dy + image * g.OH * g.OW * g.F + filter, at / g.W + g.PH, at % g.W + g.PW};
    }
    __device__ Depth depth(i64 k) const {
        const int tap = (int)k / filters;
        return {tap / g.KW * g.DH, tap % g.KW * g.DW, (int)k % filters};
    }
    __device__ T at(const Row& r, const Depth& d) const {
        int h = r.h - d.h, w = r.w - d.w;
        if (h < 0 || w < 0) return T(0);
        if (g.SH > 1 || g.SW > 1) {
            if (h % g.SH || w % g.SW) return T(0);
            h /= g.SH; w /= g.SW;
        }
        return h < g.OH && w < g.OW ? r.picture[((i64)h * g.OW + w) * g.F + d.f] : T(0);
    }
};

// Depth as that of Arriving; column: a channel of the group.
struct FiltersTurned {
    const T* data; Window g; int size, filters;
    __device__ i64 start(i64 k) const { return (i64)g.turned((int)k / filters) * size * g.F + (int)k % filters; }
    __device__ i64 beside(int j) const { return (i64)j * g.F; }
};

extern "C" __global__ void __launch_bounds__(MEMBERS) conv2d_dx(
    const T* dy, const T* w, T* dx, i64 rows, IMAGES, WINDOW AND_TAIL) {
    SPACE(Arriving);
    Window g = GIVEN;
    int size = C / groups, filters = F / groups, group = blockIdx.z;
    gemm(rows, size, 0, (i64)KH * KW * filters, Arriving{dy, g, filters, group * filters},
         FiltersTurned{w + group * filters, g, size, filters}, Slice{dx, C, group * size, TAIL}, GIVEN_SPACE);
}

// Columns, turned. Row: a position of the window and a channel. Depth: a position of y.
struct ColumnsTurned {
    static const bool ROWS_FIRST = true;
    struct Row { int down, across; i64 offset; };
    struct Depth { const T* from; int h, w; };
    const T* x; Window g; int size, channel;
    __device__ Row row(i64 k) const {
        const int tap = (int)k / size, down = tap / g.KW * g.DH - g.PH, across = tap % g.KW * g.DW - g.PW;
        return {down, across, ((i64)down * g.W + across) * g.C + channel + (int)k % size};
    }
    __device__ Depth depth(i64 m) const {
        const i64 image = m / ((i64)g.OH * g.OW);
        const int at = m - image * g.OH * g.OW, h = at / g.OW * g.SH, w = at % g.OW * g.SW;
        return {x + ((image * g.H + h) * g.W + w) * g.C, h, w};
    }
    __device__ T at(const Row& r, const Depth& d) const {
        const int h = d.h + r.down, w = d.w + r.across;
        return h >= 0 && h < g.H && w >= 0 && w < g.W ? d.from[r.offset] : T(0);
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
extern "C" __global__ void __launch_bounds__(MEMBERS) conv2d_dw(
    const T* x, const T* dy, P* part, i64 rows, int splits, i64 positions, IMAGES, WINDOW) {
    SPACE(ColumnsTurned);
    Window g = GIVEN;
    int size = C / groups, filters = F / groups, group = blockIdx.z / splits, split = blockIdx.z % splits;
    i64 first = split * positions, last = first + positions < rows ? first + positions : rows;
    gemm((i64)KH * KW * size, filters, first, last, ColumnsTurned{x, g, size, group * size},
         Right{dy + group * filters, F, 1}, Weights{part + (i64)split * KH * KW * size * F, g, size, group * filters},
         GIVEN_SPACE);
}
