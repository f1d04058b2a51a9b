// c(row, column) = sum over depth of a(row, depth) b(depth, column), by blocks of 256 threads that make 64 x 64 of it,
// 16 of the depth at a time, each thread 4 x 4 numbers. The order of the additions depends on the depth alone.
//
// A: Row row(i64) what is the same for all of a row; T at(Row, i64 depth), 0 where there is nothing; and ROWS_FIRST:
//    do neighbours in memory lie in neighbouring rows, or along the depth?
// B: T at(i64 depth, int column)    C: void put(i64 row, int column, P)
// Tiles and sums are of P.

#define TILE 64
#define DEPTH 16
// One more than the tile: 16 threads that write down a column then write to different banks.
#define LEFT __shared__ P left[DEPTH][TILE + 1]
#define RIGHT __shared__ P right[DEPTH][TILE]

template <class A, class B, class C>
__device__ inline void gemm(
    i64 rows, int columns, i64 first, i64 last, A a, B b, C c, P (*left)[TILE + 1], P (*right)[TILE]) {
    const int t = threadIdx.x, across = t % 16, down = t / 16;
    const i64 top = (i64)blockIdx.x * TILE;
    const int side = blockIdx.y * TILE;
    typename A::Row mine[4];
    for (int i = 0; i < (A::ROWS_FIRST ? 1 : 4); i++) {
        i64 row = top + (A::ROWS_FIRST ? t % 64 : down + 16 * i);
        mine[i] = a.row(row < rows ? row : rows - 1);
    }
    P sum[4][4];
    for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) sum[i][j] = P(0);

    for (i64 k = first; k < last; k += DEPTH) {
        for (int i = 0; i < 4; i++) {
            int row = A::ROWS_FIRST ? t % 64 : down + 16 * i, depth = A::ROWS_FIRST ? t / 64 + 4 * i : across;
            bool in = top + row < rows && k + depth < last;
            left[depth][row] = in ? a.at(mine[A::ROWS_FIRST ? 0 : i], k + depth) : T(0);
        }
        for (int i = 0; i < 4; i++) {
            int column = side + t % 64, depth = t / 64 + 4 * i;
            right[depth][t % 64] = column < columns && k + depth < last ? b.at(k + depth, column) : T(0);
        }
        __syncthreads();
        for (int d = 0; d < DEPTH; d++) {
            P l[4], r[4];
            for (int i = 0; i < 4; i++) { l[i] = left[d][down + 16 * i]; r[i] = right[d][across + 16 * i]; }
            for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) sum[i][j] += l[i] * r[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) {
        i64 row = top + down + 16 * i;
        int column = side + across + 16 * j;
        if (row < rows && column < columns) c.put(row, column, sum[i][j]);
    }
}

// (rows, columns), rows one after another, or turned: columns one after another.
template <bool TURNED> struct Left {
    static const bool ROWS_FIRST = TURNED;
    typedef i64 Row;
    const T* data; i64 rows, depth;
    __device__ Row row(i64 i) const { return i; }
    __device__ T at(Row i, i64 k) const { return TURNED ? data[k * rows + i] : data[i * depth + k]; }
};

struct Right {
    const T* data; i64 down, across;
    __device__ T at(i64 k, int j) const { return data[k * down + j * across]; }
};

struct Result {
    T* data; i64 columns;
    __device__ void put(i64 i, int j, P v) const { data[i * columns + j] = v; }
};
