// Plain C++ for any CPU: what the others are measured against, and what runs where they cannot. It multiplies
// in float, which every CPU has vectors for, and which is exact here: the sum of 512 products of bytes stays
// below 2**24.
#include "kernels.h"
#include "portable.h"
#include "rows.h"

enum {
  DEPTH = 512,
  ROWS = 2,
  BLOCK = 48
}; // k at a time; rows of a tile; rows for which the weights are widened once

static_assert(DEPTH * 255 * 128 < 1 << 24, "floats hold these sums exactly");

static void widen_weights(const int8_t *panel, int64_t depth, float *w) { // [k/4, 64, 4] -> [k, 64]
  for (int64_t g = 0; g < depth / GROUP; g++)
    for (int i = 0; i < GROUP; i++)
      for (int n = 0; n < PANEL; n++)
        w[(g * GROUP + i) * PANEL + n] = panel[(g * PANEL + n) * GROUP + i];
}

static void widen_rows(const Strip *s, int64_t row, int rows, int64_t from, int64_t depth,
                       float (*x)[DEPTH]) {
  const int64_t have = s->k - from < depth ? s->k - from : depth;
  for (int i = 0; i < rows; i++) {
    const uint8_t *q = s->q + (row + i) * s->q_stride + from;
    for (int64_t at = 0; at < have; at++)
      x[i][at] = q[at];
    for (int64_t at = have; at < depth; at++)
      x[i][at] = 0;
  }
}

static void block(const Strip *s, int64_t row, int64_t rows) {
  float w[DEPTH * PANEL], x[ROWS][DEPTH];
  int32_t acc[BLOCK][PANEL] = {};
  const int64_t padded = (s->k + GROUP - 1) / GROUP * GROUP;
  for (int64_t from = 0; from < padded; from += DEPTH) {
    const int64_t depth = padded - from < DEPTH ? padded - from : DEPTH;
    widen_weights(s->panel + from * PANEL, depth, w);
    for (int64_t i = 0; i < rows; i += ROWS) {
      const int tile = rows - i < ROWS ? 1 : ROWS;
      float sums[ROWS][PANEL] = {};
      widen_rows(s, row + i, tile, from, depth, x);
      if (tile == ROWS)
        add_products<ROWS>(x[0], DEPTH, w, depth, s->columns, sums);
      else
        add_products<1>(x[0], DEPTH, w, depth, s->columns, sums);
      for (int t = 0; t < tile; t++)
        for (int n = 0; n < PANEL; n++)
          acc[i + t][n] += (int32_t)sums[t][n];
    }
  }
  for (int64_t i = 0; i < rows; i++)
    store_row(s, row + i, acc[i]);
}

extern "C" void gemm_portable(const Strip *s) {
  for (int64_t row = 0; row < s->rows; row += BLOCK)
    block(s, row, s->rows - row < BLOCK ? s->rows - row : BLOCK);
}

ROW_KERNELS(portable)
