// Element-wise functions x -> y and their derivatives kept, dy -> dx. Each may overwrite what it reads: an element is
// read before it is written, by the same thread.

#include "cells.cuh"

// Bodies of kernels: v is the number itself, or what the derivative is written in terms of.
#define VALUE(OF_V) \
    EACH(i, n) { \
        const P v = x[i]; \
        y[i] = OF_V; \
    }
#define SLOPE(OF_V) \
    EACH(i, n) { \
        const P v = kept[i]; \
        dx[i] = dy[i] * (OF_V); \
    }

extern "C" __global__ void relu(const T* x, T* y, i64 n) { VALUE(at_least(v, 0)) }
extern "C" __global__ void relu_dx(const T* kept, const T* dy, T* dx, i64 n) { SLOPE(v > 0 ? (P)1 : (P)0) }
extern "C" __global__ void relu6(const T* x, T* y, i64 n) { VALUE(at_most(at_least(v, 0), 6)) }
extern "C" __global__ void relu6_dx(const T* kept, const T* dy, T* dx, i64 n) { SLOPE(v > 0 && v < 6 ? (P)1 : (P)0) }
extern "C" __global__ void sigmoid(const T* x, T* y, i64 n) { VALUE(sigmoid_of(v)) }
extern "C" __global__ void sigmoid_dx(const T* kept, const T* dy, T* dx, i64 n) { SLOPE(((P)1 - v) * v) }
extern "C" __global__ void tanh_of(const T* x, T* y, i64 n) { VALUE(tanh(v)) }
extern "C" __global__ void tanh_dx(const T* kept, const T* dy, T* dx, i64 n) { SLOPE((P)1 - v * v) }
extern "C" __global__ void softplus(const T* x, T* y, i64 n) { VALUE(at_least(v, 0) + log1p(exp(-fabs(v)))) }
extern "C" __global__ void softplus_dx(const T* kept, const T* dy, T* dx, i64 n) { SLOPE(-expm1(-v)) }
extern "C" __global__ void hard_sigmoid(const T* x, T* y, i64 n) { VALUE(at_most(at_least(v + 3, 0), 6) / 6) }
extern "C" __global__ void hard_sigmoid_dx(const T* kept, const T* dy, T* dx, i64 n) {
    SLOPE(v > 0 && v < 1 ? (P)1 / (P)6 : (P)0)
}
extern "C" __global__ void hard_swish(const T* x, T* y, i64 n) { VALUE(at_most(at_least(v + 3, 0), 6) * v / 6) }
extern "C" __global__ void hard_swish_dx(const T* kept, const T* dy, T* dx, i64 n) {
    SLOPE(v <= -3 ? (P)0 : v >= 3 ? (P)1 : v / 3 + (P)0.5)
}
extern "C" __global__ void silu(const T* x, T* y, i64 n) { VALUE(v * sigmoid_of(v)) }

extern "C" __global__ void silu_dx(const T* x, const T* dy, T* dx, i64 n) {
    EACH(i, n) {
        const P v = x[i], s = sigmoid_of(v);
        dx[i] = dy[i] * (s * (v * ((P)1 - s) + 1));
    }
}

// a: the slope below 0.
extern "C" __global__ void leaky_relu(const T* x, T* y, i64 n, P a) { VALUE(v > 0 ? v : a * v) }
extern "C" __global__ void leaky_relu_dx(const T* kept, const T* dy, T* dx, i64 n, P a) { SLOPE(v > 0 ? (P)1 : a) }
// a: what is multiplied above 0; b: what e^x - 1 is multiplied by below.
extern "C" __global__ void elu(const T* x, T* y, i64 n, P a, P b) { VALUE(v > 0 ? a * v : b * expm1(v)) }
extern "C" __global__ void elu_dx(const T* kept, const T* dy, T* dx, i64 n, P a, P b) { SLOPE(v > 0 ? a : v + b) }

__device__ inline P normal_cdf(P v) { return (P)0.5 * ((P)1 + erf(v * (P)0.70710678118654752440)); }

extern "C" __global__ void gelu(const T* x, T* y, i64 n) { VALUE(v * normal_cdf(v)) }
extern "C" __global__ void gelu_dx(const T* kept, const T* dy, T* dx, i64 n) {
    SLOPE(normal_cdf(v) + v * exp((P)-0.5 * v * v) * (P)0.39894228040143267794)
}

// a: sqrt(2 / pi), b: what the cube counts.
__device__ inline P gelu_bend(P v, P a, P b) { return tanh(a * v * ((P)1 + b * v * v)); }

extern "C" __global__ void gelu_tanh(const T* x, T* y, i64 n, P a, P b) {
    VALUE(v * ((P)0.5 * ((P)1 + gelu_bend(v, a, b))))
}

extern "C" __global__ void gelu_tanh_dx(const T* x, const T* dy, T* dx, i64 n, P a, P b) {
    EACH(i, n) {
        const P v = x[i], h = gelu_bend(v, a, b);
        dx[i] = dy[i] * ((P)0.5 * ((P)1 + h + v * ((P)1 - h * h) * a * ((P)1 + 3 * b * v * v)));
    }
}
