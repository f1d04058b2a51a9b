// A convolution's geometry, as kernels' parameters and as one thing.
// x (N, H, W, C), y (N, OH, OW, F), w (KH, KW, C/groups, F); S stride, D dilation, P rows and columns of padding before.

#define IMAGES int H, int W, int C, int OH, int OW, int F
#define WINDOW int KH, int KW, int SH, int SW, int DH, int DW, int PH, int PW, int groups, int flip

struct Window {
    int H, W, C, OH, OW, F, KH, KW, SH, SW, DH, DW, PH, PW, groups, flip;
    // Where the weights of a position of the window lie.
    __device__ int turned(int tap) const { return flip ? KH * KW - 1 - tap : tap; }
};

#define GIVEN {H, W, C, OH, OW, F, KH, KW, SH, SW, DH, DW, PH, PW, groups, flip}
