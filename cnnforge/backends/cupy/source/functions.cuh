// Element-wise functions of one number v, and their derivatives: what a gradient dy becomes, by v, which is what the
// function gave or what it was given. Kernels end with a row of them: see Tail in ``tails.py``.

#include "cells.cuh"

__device__ inline P plus(P v, P other) { return v + other; }
__device__ inline P times(P v, P other) { return v * other; }

__device__ inline P relu(P v) { return at_least(v, 0); }
__device__ inline P relu_dx(P dy, P v) { return dy * (v > 0 ? (P)1 : (P)0); }
__device__ inline P relu6(P v) { return at_most(at_least(v, 0), 6); }
__device__ inline P relu6_dx(P dy, P v) { return dy * (v > 0 && v < 6 ? (P)1 : (P)0); }
__device__ inline P sigmoid(P v) { return sigmoid_of(v); }
__device__ inline P sigmoid_dx(P dy, P v) { return dy * (((P)1 - v) * v); }
__device__ inline P tanh_of(P v) { return tanh(v); }
__device__ inline P tanh_dx(P dy, P v) { return dy * ((P)1 - v * v); }
__device__ inline P softplus(P v) { return at_least(v, 0) + log1p(exp(-fabs(v))); }
__device__ inline P softplus_dx(P dy, P v) { return dy * -expm1(-v); }
__device__ inline P hard_sigmoid(P v) { return at_most(at_least(v + 3, 0), 6) / 6; }
__device__ inline P hard_sigmoid_dx(P dy, P v) { return dy * (v > 0 && v < 1 ? (P)1 / (P)6 : (P)0); }
__device__ inline P hard_swish(P v) { return at_most(at_least(v + 3, 0), 6) * v / 6; }
__device__ inline P hard_swish_dx(P dy, P v) { return dy * (v <= -3 ? (P)0 : v >= 3 ? (P)1 : v / 3 + (P)0.5); }
__device__ inline P silu(P v) { return v * sigmoid_of(v); }
__device__ inline P silu_dx(P dy, P v) {
    const P s = sigmoid_of(v);
    return dy * (s * (v * ((P)1 - s) + 1));
}

// a: the slope below 0.
__device__ inline P leaky_relu(P v, P a) { return v > 0 ? v : a * v; }
__device__ inline P leaky_relu_dx(P dy, P v, P a) { return dy * (v > 0 ? (P)1 : a); }
// a: what is multiplied above 0; b: what e^x - 1 is multiplied by below.
__device__ inline P elu(P v, P a, P b) { return v > 0 ? a * v : b * expm1(v); }
__device__ inline P elu_dx(P dy, P v, P a, P b) { return dy * (v > 0 ? a : v + b); }

__device__ inline P normal_cdf(P v) { return (P)0.5 * ((P)1 + erf(v * (P)0.70710678118654752440)); }
__device__ inline P gelu(P v) { return v * normal_cdf(v); }
__device__ inline P gelu_dx(P dy, P v) {
    return dy * (normal_cdf(v) + v * exp((P)-0.5 * v * v) * (P)0.39894228040143267794);
}

// a: sqrt(2 / pi), b: what the cube counts.
__device__ inline P gelu_bend(P v, P a, P b) { return tanh(a * v * ((P)1 + b * v * v)); }
__device__ inline P gelu_tanh(P v, P a, P b) { return v * ((P)0.5 * ((P)1 + gelu_bend(v, a, b))); }
__device__ inline P gelu_tanh_dx(P dy, P v, P a, P b) {
    const P h = gelu_bend(v, a, b);
    return dy * ((P)0.5 * ((P)1 + h + v * ((P)1 - h * h) * a * ((P)1 + 3 * b * v * v)));
}
