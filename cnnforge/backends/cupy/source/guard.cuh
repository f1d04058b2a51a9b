// Loss scaling, which comes before the loss's gradient is cast to a half type and after the weights' have been cast back.
// device: what the device keeps, see DEVICE_FIELDS.

#include "cells.cuh"
#include "step.cuh"

extern "C" __global__ void scale_loss(const P* dz, const double* device, P* scaled, i64 n) {
    const P scale = (P)device[SCALE];
    EACH(i, n) scaled[i] = dz[i] * scale;
}

// partial: of each block, how many of its threads saw a number that is not finite.
extern "C" __global__ void unscale(P* sums, const double* device, P* partial, i64 n) {
    __shared__ P space[MOST_THREADS];
    const P inverse = (P)(1 / device[SCALE]);
    P strange = 0;
    EACH(i, n) {
        const P g = sums[i];
        if (!(g - g == 0)) strange = 1;
        sums[i] = g * inverse;
    }
    strange = block_sum(strange, space);
    if (threadIdx.x == 0) partial[blockIdx.x] = strange;
}

// One block.
extern "C" __global__ void judge(
    const P* partial, double* device, int parts, double growth, double interval, double backoff, double least,
    double most
) {
    __shared__ P space[MOST_THREADS];
    P strange = 0;
    for (int p = threadIdx.x; p < parts; p += blockDim.x) strange += partial[p];
    strange = block_sum(strange, space);
    if (threadIdx.x != 0) return;
    const bool stopped = device[STOPPED] != 0;
    device[SKIP] = stopped || strange != 0;
    if (stopped) return;
    if (strange != 0) {
        device[SINCE] = 0;
        device[SCALE] = fmax(device[SCALE] * backoff, least);
    } else if (++device[SINCE] == interval) {
        device[SINCE] = 0;
        device[SCALE] = fmin(device[SCALE] * growth, most);
    }
}
