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
// to even. Every nan becomes 0x7fff, as NVIDIA's own instructions have it. Both ways give the same bits on a card and
// without one.

// 8 bits of exponent, as a float has, and 7 of the fraction.
struct bf16 {
    unsigned short bits;
    bf16() = default;
    __device__ inline bf16(float v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
        const u32 u = __float_as_uint(v);
        // Half of what is cut off, and 1 less where the last bit that stays is 0: a tie then stays below.
        bits = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
#endif
    }
    __device__ inline operator float() const { return __uint_as_float((u32)bits << 16); }
};

// IEEE's: 5 bits of exponent, 10 of the fraction.
struct f16 {
    unsigned short bits;
    f16() = default;
    __device__ inline f16(float v) {
#if defined(__CUDA_ARCH__)
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
        const u32 u = __float_as_uint(v), size = u & 0x7fffffffu, sign = u >> 16 & 0x8000u;
        if (size > 0x7f800000u) bits = 0x7fff;
        else if (size >= 0x477ff000u) bits = (unsigned short)(sign | 0x7c00u);  // from 65520 on: infinite
        else if (size >= 0x38800000u)  // 2^-14: another bias of the exponent, 13 bits less
            bits = (unsigned short)(sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13);
        else {  // below it all are multiples of 2^-24, as the floats from 1/2 on are: the sum is rounded to one
            const float multiple = __uint_as_float(size) + 0.5f;
            bits = (unsigned short)(sign | (__float_as_uint(multiple) - 0x3f000000u));
        }
#endif
    }
    __device__ inline operator float() const {
#if defined(__CUDA_ARCH__)
        float v;
        asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
        return v;
#else
        const u32 size = bits & 0x7fffu, sign = (bits & 0x8000u) << 16;
        if (size > 0x7c00u) return __uint_as_float(0x7fffffffu);
        if (size == 0x7c00u) return __uint_as_float(sign | 0x7f800000u);
        if (size >= 0x400u) return __uint_as_float(sign | ((size << 13) + 0x38000000u));
        const float multiple = (float)size * 5.9604644775390625e-8f;  // 2^-24
        return sign ? -multiple : multiple;
#endif
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
