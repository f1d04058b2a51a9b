// c(row, column) = sum over depth of a(row, depth) b(depth, column), by blocks of 256 threads that make a tile of
// TILE_ROWS x TILE_COLUMNS of it, DEPTH of the depth at a time, each thread ROWS x COLUMNS neighbours. While one piece of
// the depth is worked on, the next is on its way. The order of the additions depends on the depth alone.
//
// A: Row row(i64) and Depth depth(i64), what is the same for all of a row, of a depth; T at(Row, Depth), 0 where there is
//    nothing; and ROWS_FIRST: do neighbours in memory lie in neighbouring rows, or along the depth?
// B: T* data, in which (depth, column) lies at start(depth) + beside(column)
// C: void put(i64 row, int column, P)
// Tiles and sums are of P.

#ifndef TILE_ROWS
#define TILE_ROWS 64
#define TILE_COLUMNS 64
#define ROWS 4
#define COLUMNS 4
#endif
#define DEPTH 16
#define MEMBERS 256
// Rows and columns of a tile keep their neighbours aligned to 16 bytes, and begin in different banks.
#define SPACE(A) \
    __shared__ __align__(16) P left[DEPTH][TILE_ROWS + 4]; \
    __shared__ __align__(16) P right[DEPTH][TILE_COLUMNS + 4]; \
    __shared__ A::Row lines[TILE_ROWS]; \
    __shared__ A::Depth steps[2][DEPTH]; \
    __shared__ i64 starts[2][DEPTH]
#define GIVEN_SPACE left, right, lines, steps, starts

template <class A, class B, class C>
__device__ inline void gemm(
    i64 rows, int columns, i64 first, i64 last, A a, B b, C c, P (*left)[TILE_ROWS + 4], P (*right)[TILE_COLUMNS + 4],
    typename A::Row* lines, typename A::Depth (*steps)[DEPTH], i64 (*starts)[DEPTH]) {
    const int ACROSS = TILE_COLUMNS / COLUMNS, LEFTS = TILE_ROWS * DEPTH / MEMBERS, RIGHTS = TILE_COLUMNS * DEPTH / MEMBERS;
    static_assert(TILE_ROWS / ROWS * ACROSS == MEMBERS && TILE_ROWS <= MEMBERS && RIGHTS > 0, "");
    const int t = threadIdx.x, across = t % ACROSS * COLUMNS, down = t / ACROSS * ROWS;
    const i64 top = (i64)blockIdx.x * TILE_ROWS;
    const int side = blockIdx.y * TILE_COLUMNS;
    if (t < TILE_ROWS) lines[t] = a.row(top + t < rows ? top + t : rows - 1);
    if (t < 2 * DEPTH && first + t < last) {
        steps[t / DEPTH][t % DEPTH] = a.depth(first + t);
        starts[t / DEPTH][t % DEPTH] = b.start(first + t);
    }
    __syncthreads();

    // This thread's part of a piece: of the left tile (row, depth)s, of the right one (depth, column)s.
    const int row0 = A::ROWS_FIRST ? t % TILE_ROWS : t / DEPTH, depth0 = A::ROWS_FIRST ? t / TILE_ROWS : t % DEPTH;
    const int column0 = t % TILE_COLUMNS, deep0 = t / TILE_COLUMNS;
    P l[LEFTS], r[RIGHTS];
    auto fetch = [&](i64 k, int buffer) {
#pragma unroll
        for (int i = 0; i < LEFTS; i++) {
            int row = A::ROWS_FIRST ? row0 : row0 + MEMBERS / DEPTH * i;
            int depth = A::ROWS_FIRST ? depth0 + MEMBERS / TILE_ROWS * i : depth0;
            l[i] = top + row < rows && k + depth < last ? (P)a.at(lines[row], steps[buffer][depth]) : P(0);
        }
#pragma unroll
        for (int i = 0; i < RIGHTS; i++) {
            int depth = deep0 + MEMBERS / TILE_COLUMNS * i;
            bool in = side + column0 < columns && k + depth < last;
            r[i] = in ? (P)b.data[starts[buffer][depth] + b.beside(side + column0)] : P(0);
        }
    };

    P sum[ROWS][COLUMNS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) for (int j = 0; j < COLUMNS; j++) sum[i][j] = P(0);
    fetch(first, 0);
    int buffer = 0;
    for (i64 k = first; k < last; k += DEPTH, buffer ^= 1) {
#pragma unroll
        for (int i = 0; i < LEFTS; i++) {
            int row = A::ROWS_FIRST ? row0 : row0 + MEMBERS / DEPTH * i;
            left[A::ROWS_FIRST ? depth0 + MEMBERS / TILE_ROWS * i : depth0][row] = l[i];
        }
#pragma unroll
        for (int i = 0; i < RIGHTS; i++) right[deep0 + MEMBERS / TILE_COLUMNS * i][column0] = r[i];
        __syncthreads();
        if (k + DEPTH < last) fetch(k + DEPTH, buffer ^ 1);
        const i64 later = k + 2 * DEPTH + t;  // nobody reads this half of the tables before the next but one __syncthreads
        if (t < DEPTH && later < last) {
            steps[buffer][t] = a.depth(later);
            starts[buffer][t] = b.start(later);
        }
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            P u[ROWS], v[COLUMNS];
#pragma unroll
            for (int i = 0; i < ROWS; i++) u[i] = left[d][down + i];
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) v[j] = right[d][across + j];
#pragma unroll
            for (int i = 0; i < ROWS; i++) for (int j = 0; j < COLUMNS; j++) sum[i][j] += u[i] * v[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < ROWS; i++) for (int j = 0; j < COLUMNS; j++) {
        i64 row = top + down + i;
        int column = side + across + j;
        if (row < rows && column < columns) c.put(row, column, sum[i][j]);
    }
}

// (rows, columns), rows one after another, or turned: columns one after another.
template <bool TURNED> struct Left {
    static const bool ROWS_FIRST = TURNED;
    typedef i64 Row;
    typedef i64 Depth;
    const T* data; i64 rows, columns;
    __device__ Row row(i64 i) const { return TURNED ? i : i * columns; }
    __device__ Depth depth(i64 k) const { return TURNED ? k * rows : k; }
    __device__ T at(Row i, Depth k) const { return data[i + k]; }
};

struct Right {
    const T* data; i64 down, across;
    __device__ i64 start(i64 k) const { return k * down; }
    __device__ i64 beside(int j) const { return j * across; }
};

struct Result {
    T* data; i64 columns; Tail tail;
    __device__ void put(i64 i, int j, P v) const { data[i * columns + j] = tail(v, i * columns + j, j); }
};
