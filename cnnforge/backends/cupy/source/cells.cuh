// How kernels walk over arrays, and sums in an order that never changes: no float is added atomically.

// Threads of a block at most: what shared memory below is sized for. blockDim.x and blockDim.y are powers of two.
#define MOST_THREADS 256

// Cells (r, c) of a matrix: neighbouring threads have neighbouring columns.
#define EACH_CELL(r, c, rows, columns) \
    for (int c = blockIdx.x * blockDim.x + threadIdx.x; c < (columns); c += gridDim.x * blockDim.x) \
        for (int r = blockIdx.y * blockDim.y + threadIdx.y; r < (rows); r += gridDim.y * blockDim.y)

// Threads of all threadIdx.x share row r = threadIdx.y of the block's; where it is beyond the last one they only wait.
#define ROW \
    const int r = blockIdx.x * blockDim.y + threadIdx.y; \
    const bool here = r < rows; \
    __shared__ P space[MOST_THREADS]; \
    const i64 start = (i64)r * columns;
#define EACH_OF_ROW(c) for (int c = threadIdx.x; here && c < columns; c += blockDim.x)

// Nan stays nan.
__device__ inline P at_least(P v, P low) { return v < low ? low : v; }
__device__ inline P at_most(P v, P high) { return v > high ? high : v; }
__device__ inline P sigmoid_of(P v) { return (P)1 / ((P)1 + exp(-v)); }

// Sums below are given to all threads that share in them; every thread of the block has to come. space: MOST_THREADS
// elements of shared memory.

// The sum over threadIdx.y.
__device__ inline P sum_down(P own, P* space) {
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // an earlier sum may still be read
    space[at] = own;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if ((int)threadIdx.y < half) space[at] += space[at + half * blockDim.x];
        __syncthreads();
    }
    return space[threadIdx.x];
}

// The sum over threadIdx.x.
__device__ inline P sum_across(P own, P* space) {
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();
    space[at] = own;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) space[at] += space[at + half];
        __syncthreads();
    }
    return space[threadIdx.y * blockDim.x];
}

// The largest over threadIdx.x and where it lies, the first of equal ones.
__device__ inline P max_across(P own, int& where, P* space, int* places) {
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();
    space[at] = own;
    places[at] = where;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        const int to = at + half;
        if ((int)threadIdx.x < half)
            if (space[to] > space[at] || (space[to] == space[at] && places[to] < places[at])) {
                space[at] = space[to];
                places[at] = places[to];
            }
        __syncthreads();
    }
    where = places[threadIdx.y * blockDim.x];
    return space[threadIdx.y * blockDim.x];
}

// Sums of columns in two steps, the second in sums.cuh. A matrix (samples, rows, columns); gridDim.x = samples * blocks of columns, gridDim.y =
// parts, each of which adds up every parts-th row. partial: (samples, parts, columns).
#define COLUMN_SUM(TERM) \
    __shared__ P space[MOST_THREADS]; \
    const int blocks = (columns + blockDim.x - 1) / blockDim.x, sample = blockIdx.x / blocks; \
    const int c = (blockIdx.x % blocks) * blockDim.x + threadIdx.x; \
    P sum = 0; \
    if (c < columns) \
        for (int r = blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += gridDim.y * blockDim.y) { \
            const i64 i = ((i64)sample * rows + r) * columns + c; \
            sum += TERM; \
        } \
    sum = sum_down(sum, space); \
    if (threadIdx.y == 0 && c < columns) partial[((i64)sample * gridDim.y + blockIdx.y) * columns + c] = sum;
