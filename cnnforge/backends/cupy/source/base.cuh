// What every kernel starts from. T is what activations and their gradients are: float, double, bf16 or f16. P is what
// parameters, statistics and sums are, and what everything is computed in: float for the half types, else T. Both are
// defined before this is read.
// Kernels: extern "C" __global__ void name(…), of pointers and numbers of the types below, P, int, float and double, and
// of pointers to T.
// No float atomics: sums are added up in a fixed order. Shared memory is declared in the kernel, of fixed size.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned char u8;

// Half types are only kept in memory: read, they are floats, and a float that is written is rounded to the nearest, ties
// to even; every nan becomes 0x7fff, as NVIDIA's instructions have it. It is done by their bits, so that it is the same
// everywhere; and those instructions, which are inline assembly, keep the compiler from unrolling the loops around them.

// 8 bits of exponent, as a float has, and 7 of the fraction.
struct bf16 {
    unsigned short bits;
    bf16() = default;
    __device__ inline bf16(float v) {
        const u32 u = __float_as_uint(v);
        // Half of what is cut off, and 1 less where the last bit that stays is 0: a tie then stays below.
        bits = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
    }
    __device__ inline operator float() const { return __uint_as_float((u32)bits << 16); }
};

// IEEE's: 5 bits of exponent, 10 of the fraction. No number below passes through a subnormal float, which compilers are
// told to take for 0.
struct f16 {
    unsigned short bits;
    f16() = default;
    __device__ inline f16(float v) {
        const u32 u = __float_as_uint(v), size = u & 0x7fffffffu;
        // From 2^-14 on: another bias of the exponent, and 13 bits less, rounded as above.
        const u32 normal = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
        // Below, all are multiples of 2^-24, as the floats between 1/2 and 1 are: the sum is rounded to one of them.
        const u32 small = __float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u;
        const u32 finite = size < 0x38800000u ? small : normal;
        const u32 whole = (u >> 16 & 0x8000u) | (size < 0x477ff000u ? finite : 0x7c00u);  // from 65520 on: infinite
        bits = (unsigned short)(size > 0x7f800000u ? 0x7fffu : whole);
    }
    __device__ inline operator float() const {
        const u32 size = (u32)(bits & 0x7fff) << 13;
        const float small = __uint_as_float(size + 0x38800000u) - 6.103515625e-5f;  // 2^-14 (1 + fraction) - 2^-14
        const u32 normal = size + (size < 0x0f800000u ? 0x38000000u : 0x70000000u);  // the latter: infinite, nan
        return __uint_as_float((u32)(bits & 0x8000) << 16 | (size < 0x00800000u ? __float_as_uint(small) : normal));
    }
};

// A grid-stride loop over n elements, launched by `each`.
#define EACH(i, n) for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (i64)gridDim.x * blockDim.x)

// The sum of every thread's value, the same in all of them. space: blockDim.x elements of shared memory; blockDim.x is
// a power of two, and all threads come here. It is always added up in one order.
__device__ inline P block_sum(P value, P* space) {
    __syncthreads();
    space[threadIdx.x] = value;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) space[threadIdx.x] += space[threadIdx.x + half];
    }
    __syncthreads();
    return space[0];
}
