// The second step of sums of columns, whose first one is COLUMN_SUM of cells.cuh.

// partial (samples, parts, columns) -> out (samples, columns). gridDim.y = samples.
extern "C" __global__ void add_parts(const T* partial, T* out, int parts, int columns) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= columns) return;
    T sum = 0;
    for (int p = 0; p < parts; ++p) sum += partial[((i64)blockIdx.y * parts + p) * columns + c];
    out[(i64)blockIdx.y * columns + c] = sum;
}
