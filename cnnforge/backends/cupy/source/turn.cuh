// Weights of a convolution from our layout to cuDNN's and back: (taps, channels, filters) and (filters, taps, channels).
// Blocks of 32 x 8 threads turn squares of 32 x 32; blockIdx.x goes over taps and channels, blockIdx.y over filters.
// flip: the taps from the last to the first.

#define SIDE 32
// One more than the square: threads that read down a column then read from different banks.
#define SQUARE __shared__ T square[SIDE][SIDE + 1]; \
    const int rows = taps * channels, top = blockIdx.x * SIDE, side = blockIdx.y * SIDE;

__device__ inline int tap_row(int row, int taps, int channels, int flip) {
    return flip ? (taps - 1 - row / channels) * channels + row % channels : row;
}

extern "C" __global__ void turn(const T* w, T* turned, int taps, int channels, int filters, int flip) {
    SQUARE
    for (int i = threadIdx.y; i < SIDE; i += blockDim.y) {
        const int row = top + i, f = side + threadIdx.x;
        if (row < rows && f < filters)
            square[i][threadIdx.x] = w[(i64)tap_row(row, taps, channels, flip) * filters + f];
    }
    __syncthreads();
    for (int i = threadIdx.y; i < SIDE; i += blockDim.y) {
        const int row = top + threadIdx.x, f = side + i;
        if (row < rows && f < filters) turned[(i64)f * rows + row] = square[threadIdx.x][i];
    }
}

extern "C" __global__ void turn_back(const T* turned, T* w, int taps, int channels, int filters, int flip) {
    SQUARE
    for (int i = threadIdx.y; i < SIDE; i += blockDim.y) {
        const int row = top + threadIdx.x, f = side + i;
        if (row < rows && f < filters) square[i][threadIdx.x] = turned[(i64)f * rows + row];
    }
    __syncthreads();
    for (int i = threadIdx.y; i < SIDE; i += blockDim.y) {
        const int row = top + i, f = side + threadIdx.x;
        if (row < rows && f < filters)
            w[(i64)tap_row(row, taps, channels, flip) * filters + f] = square[threadIdx.x][i];
    }
}
