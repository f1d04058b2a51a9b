// What every kernel starts from. T is float or double, defined before this is read.
// Kernels: extern "C" __global__ void name(…), of pointers and numbers of the types below, T, int, float and double.
// No float atomics: sums are added up in a fixed order. Shared memory is declared in the kernel, of fixed size.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned char u8;

// A grid-stride loop over n elements, launched by `each`.
#define EACH(i, n) for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (i64)gridDim.x * blockDim.x)

// The sum of every thread's value, the same in all of them. space: blockDim.x elements of shared memory; blockDim.x is
// a power of two, and all threads come here. It is always added up in one order.
__device__ inline T block_sum(T value, T* space) {
    __syncthreads();
    space[threadIdx.x] = value;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) space[threadIdx.x] += space[threadIdx.x + half];
    }
    __syncthreads();
    return space[0];
}
