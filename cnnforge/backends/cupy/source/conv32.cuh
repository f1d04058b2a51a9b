#define TILE_ROWS 128
#define TILE_COLUMNS 32
#define ROWS 4
#define COLUMNS 4
#include "conv.cuh"
