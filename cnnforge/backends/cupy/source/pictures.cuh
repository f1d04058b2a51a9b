// Batches of input from stored pictures: picked, moved, interpolated, coloured, normalised, erased, mixed.
// What cnnforge/data does, to the bit where nothing is summed up (elastic fields, colours): there every product and sum
// is rounded by itself, which compilers leave alone in the functions below. Pixels are float whatever T is.
// Launched with a block row for each picture, or pair of them, and 256 threads for its pixels.

#include "philox.cuh"

__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }

// What is drawn for a picture that is distorted, and for a pair that is mixed: DRAWN and MIXED of backends/base.py.
enum { MAP = 0, BOXES = 6, COLOURS = 14, GREY = 23, DRAWN = 24 };
enum { OWN, TOP, LEFT, BOTTOM, RIGHT, MIXED };

#define EACH_PIXEL(p, n) for (int p = blockIdx.y * blockDim.x + threadIdx.x; p < (n); p += gridDim.y * blockDim.x)

// x: (n, height, width, channels). rows: (N,) numbers in x where all of it is there, in the split in any case; else
// x holds the batch's own. picks: (N, 2) lists of down (R, height) and across (K, width).
#define STORED const u8* x, const i64* rows, const int* picks, const int* down, const int* across, int whole
#define SIZES int height, int width, int channels
// mean, factor: (channels,). A single channel is written `repeats` times.
#define SCALED const float* mean, const float* factor, int repeats

// A stored picture, moved: row h is row down[h] of what is stored, column w column across[w]; negative is black.
struct Moved {
    const u8* pixels;
    const int *down, *across;
    int width, channels;

    __device__ Moved(STORED, SIZES, i64 i)
        : pixels(x + (whole ? rows[i] : i) * height * width * channels), down(down + (i64)picks[2 * i] * height),
          across(across + (i64)picks[2 * i + 1] * width), width(width), channels(channels) {}

    __device__ float at(int h, int w, int c) const {
        const int row = down[h], column = across[w];
        return row < 0 || column < 0 ? 0.0f : (float)pixels[(i64)(row * width + column) * channels + c];
    }
};

// out: (N, height, width, channels * repeats)
extern "C" __global__ void pick_pictures(STORED, SCALED, SIZES, float* out) {
    const i64 i = blockIdx.x;
    const Moved picture(x, rows, picks, down, across, whole, height, width, channels, i);
    const int pixels = height * width;
    EACH_PIXEL(p, pixels) {
        const int h = p / width, w = p - h * width;
        float* pixel = out + (i * pixels + p) * channels * repeats;
        for (int c = 0; c < channels; ++c) {
            const float value = times(minus(picture.at(h, w, c), mean[c]), factor[c]);
            for (int again = 0; again < repeats; ++again) pixel[c + again] = value;
        }
    }
}

// Which of n places stands for `at`; -1: none. border: 0 zero, 1 reflect, 2 edge
__device__ inline int place(int at, int n, int border) {
    if (border == 1) {
        const int period = n > 1 ? 2 * (n - 1) : 1;
        at %= period;
        if (at < 0) at += period;
        return at >= n ? period - at : at;
    }
    if (at >= 0 && at < n) return at;
    return border == 0 ? -1 : at < 0 ? 0 : n - 1;
}

// A channel's value, normalised and repeated, at (h, w) of a picture that may have two rectangles without any.
// fills: (2, channels)
__device__ inline void finish(
    float value, const float* drawn, const float* fills, SCALED, int h, int w, int c, int channels, float* pixel
) {
    value = times(minus(value, mean[c]), factor[c]);
    for (int k = 0; k < 2; ++k) {
        const float* box = drawn + BOXES + 4 * k;
        if (h >= box[0] && w >= box[1] && h < box[2] && w < box[3]) value = fills[k * channels + c];
    }
    for (int again = 0; again < repeats; ++again) pixel[c + again] = value;
}

// Pictures first, first + 1 … of the batch. drawn: (N, DRAWN); field: (pictures, 2, height, width), where elastic.
// Where colours are to follow, the first channels of out's get what they begin with.
extern "C" __global__ void distort_pictures(
    STORED, SCALED, SIZES, const float* drawn, const float* fills, const float* field, float* out, int first,
    int warped, int elastic, int border, int coloured
) {
    const i64 i = (i64)first + blockIdx.x;
    const Moved picture(x, rows, picks, down, across, whole, height, width, channels, i);
    const int pixels = height * width;
    const float *own = drawn + i * DRAWN, *a = own + MAP;
    EACH_PIXEL(p, pixels) {
        const int h = p / width, w = p - h * width;
        float* pixel = out + (i * pixels + p) * channels * repeats;
        int from_rows[2] = {h, h}, from_columns[2] = {w, w};
        float shares[4];
        if (warped) {
            float row = plus(plus(times(a[0], (float)h), times(a[1], (float)w)), a[2]);
            float column = plus(plus(times(a[3], (float)h), times(a[4], (float)w)), a[5]);
            if (elastic) {
                const float* moved = field + (i64)blockIdx.x * 2 * pixels + p;
                row = plus(row, moved[0]);
                column = plus(column, moved[pixels]);
            }
            const float top = floorf(row), left = floorf(column);
            const float below = minus(row, top), right = minus(column, left);
            for (int k = 0; k < 2; ++k) {
                from_rows[k] = place((int)top + k, height, border);
                from_columns[k] = place((int)left + k, width, border);
            }
            for (int k = 0; k < 4; ++k)
                shares[k] = times(k / 2 ? below : minus(1.0f, below), k % 2 ? right : minus(1.0f, right));
        }
        for (int c = 0; c < channels; ++c) {
            float value = 0.0f;
            if (!warped) value = picture.at(h, w, c);
            for (int k = 0; warped && k < 4; ++k) {
                const int row = from_rows[k / 2], column = from_columns[k % 2];
                if (row >= 0 && column >= 0) value = plus(value, times(shares[k], picture.at(row, column, c)));
            }
            if (coloured) pixel[c] = value;
            else finish(value, own, fills, mean, factor, repeats, h, w, c, channels, pixel);
        }
    }
}

// noise: (pictures, elements), words of an epoch's streams as numbers in [-1, 1); elements are of one picture.
extern "C" __global__ void elastic_noise(
    const i64* rows, const u64* epoch, float* noise, int first, int elements, u32 k0, u32 k1
) {
    const i64 sample = rows[(i64)first + blockIdx.x];
    float* own = noise + (i64)blockIdx.x * elements;
    EACH_PIXEL(block, (elements + 3) / 4) {
        u32 words[4] = {(u32)block, (u32)sample, (u32)*epoch, (u32)(*epoch >> 32)};
        philox(words, k0, k1);
        for (int j = 0; j < 4 && block * 4 + j < elements; ++j)
            own[block * 4 + j] = (float)(words[j] >> 8) * 1.1920928955078125e-7f - 1.0f;
    }
}

// weights: (height, height), 0 where further than `reach` from the diagonal. planes: (…, height, width), for each
// between = weights noise.
extern "C" __global__ void smooth_down(
    const float* noise, const float* weights, float* between, int height, int width, int reach
) {
    const i64 start = (i64)blockIdx.x * height * width;
    EACH_PIXEL(p, height * width) {
        const int h = p / width, w = p - h * width;
        float sum = 0.0f;
        for (int k = max(0, h - reach); k <= min(height - 1, h + reach); ++k)
            sum += weights[h * height + k] * noise[start + k * width + w];
        between[start + p] = sum;
    }
}

// weights: (width, width), transposed: field = between weights.
extern "C" __global__ void smooth_across(
    const float* between, const float* weights, float* field, int height, int width, int reach
) {
    const i64 start = (i64)blockIdx.x * height * width;
    EACH_PIXEL(p, height * width) {
        const int h = p / width, w = p - h * width;
        float sum = 0.0f;
        for (int k = max(0, w - reach); k <= min(width - 1, w + reach); ++k)
            sum += between[start + h * width + k] * weights[k * width + w];
        field[start + p] = sum;
    }
}

// What of its mean grey every picture gets: offsets (N,). x: (N, pixels, stride), of which the first channels count.
// One block of 256 threads for each.
extern "C" __global__ void grey_pictures(
    const float* x, const float* drawn, const float* weights, float* offsets, int pixels, int channels, int stride
) {
    __shared__ double space[256];
    const i64 i = blockIdx.x;
    double sum = 0;
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
        const float* pixel = x + (i * pixels + p) * stride;
        float grey = 0.0f;
        for (int c = 0; c < channels; ++c) grey += pixel[c] * weights[c];
        sum += grey;
    }
    space[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) space[threadIdx.x] += space[threadIdx.x + half];
    }
    if (threadIdx.x == 0) offsets[i] = times(drawn[i * DRAWN + GREY], (float)(space[0] / pixels));
}

// In place: other colours, then what `distort_pictures` does without. top: the highest that they may be; negative: any
extern "C" __global__ void colour_pictures(
    SCALED, SIZES, const float* drawn, const float* fills, const float* offsets, float* out, float top
) {
    const i64 i = blockIdx.x;
    const int pixels = height * width;
    const float *own = drawn + i * DRAWN, *a = own + COLOURS, offset = offsets[i];
    EACH_PIXEL(p, pixels) {
        const int h = p / width, w = p - h * width;
        float* pixel = out + (i * pixels + p) * channels * repeats;
        const float first = pixel[0], second = channels == 3 ? pixel[1] : 0.0f, third = channels == 3 ? pixel[2] : 0.0f;
        const float scale = plus(plus(a[0], a[1]), a[2]);
        for (int c = 0; c < channels; ++c) {
            float value = channels == 3 ? a[3 * c] * first + a[3 * c + 1] * second + a[3 * c + 2] * third
                                        : times(pixel[c], scale);
            value = plus(value, offset);
            if (top >= 0.0f) value = fminf(fmaxf(value, 0.0f), top);
            finish(value, own, fills, mean, factor, repeats, h, w, c, channels, pixel);
        }
    }
}

// Pairs of neighbouring pictures x (N, height, width, channels), in place: a part of one changes places with the
// other's, or one is laid over the other. mixed: (N, MIXED), of which the first of a pair counts.
extern "C" __global__ void mix_pictures(float* x, const float* mixed, SIZES) {
    const i64 pair = blockIdx.x;
    const float* draw = mixed + 2 * pair * MIXED;
    const bool cut = draw[BOTTOM] > draw[TOP];
    const float other = minus(1.0f, draw[OWN]);
    const int pixels = height * width;
    EACH_PIXEL(p, pixels) {
        const int h = p / width, w = p - h * width;
        const bool moves = cut && h >= draw[TOP] && w >= draw[LEFT] && h < draw[BOTTOM] && w < draw[RIGHT];
        float *first = x + (2 * pair * pixels + p) * channels, *second = first + (i64)pixels * channels;
        for (int c = 0; c < channels; ++c) {
            const float a = first[c], b = second[c];
            if (moves) {
                first[c] = b;
                second[c] = a;
            } else if (!cut && draw[OWN] < 1.0f) {
                const float change = times(minus(b, a), other);
                first[c] = plus(a, change);
                second[c] = minus(b, change);
            }
        }
    }
}
