// All rows of a strip in tiles of up to 6 rows, for 256-bit registers. A file that includes this has
// tile<ROWS, VECTORS>, which takes VECTORS registers of columns at a time: more of them with fewer rows, so
// that there are always enough sums to hide the latency of one.
#pragma once

#include "kernels.h"

#define GEMM_OF_TILES(name)                                                                                  \
  extern "C" void name(const Strip *s) {                                                                     \
    static void (*const tiles[])(const Strip *, int64_t) = {nullptr,    tile<1, 8>, tile<2, 4>, tile<3, 2>,  \
                                                            tile<4, 2>, tile<5, 2>, tile<6, 2>};             \
    for (int64_t row = 0; row < s->rows; row += 6)                                                           \
      tiles[s->rows - row < 6 ? s->rows - row : 6](s, row);                                                  \
  }
