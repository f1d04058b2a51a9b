#define TILE_ROWS 128
#define TILE_COLUMNS 128
#define ROWS 8
#define COLUMNS 8
#include "conv.cuh"
