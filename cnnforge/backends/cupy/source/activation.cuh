// Element-wise functions: the tail is all that is done. It may overwrite what it reads: an element is read before it is
// written, by the same thread.

#include "functions.cuh"

extern "C" __global__ void apply(const T* x, T* y, i64 n AND_TAIL) {
    EACH(i, n) y[i] = TAIL(x[i], i, 0);
}

extern "C" __global__ void apply_by_column(const T* x, T* y, int rows, int columns AND_TAIL) {
    EACH_CELL(r, c, rows, columns) {
        const i64 i = (i64)r * columns + c;
        y[i] = TAIL(x[i], i, c);
    }
}
