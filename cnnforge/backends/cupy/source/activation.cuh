// Element-wise functions and their gradients. Each may overwrite what it reads: an element is read before it is written,
// by the same thread.

extern "C" __global__ void relu(const T* x, T* y, i64 n) {
    EACH(i, n) y[i] = x[i] > T(0) ? x[i] : x[i] != x[i] ? x[i] : T(0);
}

extern "C" __global__ void relu_dx(const T* y, const T* dy, T* dx, i64 n) {
    EACH(i, n) dx[i] = y[i] > T(0) ? dy[i] : T(0);
}
