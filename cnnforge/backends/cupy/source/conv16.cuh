#define TILE_ROWS 128
#define TILE_COLUMNS 16
#define ROWS 4
#define COLUMNS 2
#include "conv.cuh"
