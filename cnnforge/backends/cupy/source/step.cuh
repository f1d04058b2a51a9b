// The fields of the step block, in the order of ``cnnforge.ir.graph.STEP_FIELDS``.
enum { STEP, DRAW, FIRST, LR, INV_N, C1, C2, KEEP };
// Those of ``DEVICE_FIELDS``.
enum { SCALE, SINCE, SKIP, STOPPED, LOSS, HITS };

// Is this update left out? device: null where nothing ever is.
__device__ inline bool left_out(const double* device) {
    return device && (device[SKIP] != 0 || device[STOPPED] != 0);
}

// mean += new1 (g - mean); square = beta2 square + new2 g^2
__device__ inline void follow_moments(P g, P* mean, P* square, P new1, P beta2, P new2) {
    *mean += (g - *mean) * new1;
    *square = *square * beta2 + g * g * new2;
}
