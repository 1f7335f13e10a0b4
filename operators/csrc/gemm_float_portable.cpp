// Plain C++ for any CPU.
#include "float.h"
#include "portable.h"

enum {
  DEPTH = 256,
  ROWS = 2,
  BLOCK = 48
}; // steps at a time; rows of a tile; rows for which weights are widened once

static void widen(const uint16_t *pairs, int64_t steps, float *w) { // [steps, 64, 2] -> [2 * steps, 64]
  for (int64_t at = 0; at < steps; at++)
    for (int half = 0; half < 2; half++)
      for (int n = 0; n < PANEL; n++)
        w[(2 * at + half) * PANEL + n] = widened(pairs[(at * PANEL + n) * 2 + half]);
}

static void add_rows(const FloatStrip *s, int64_t rows, const float *x, int64_t stride, const float *w,
                     int64_t k, float (*sums)[PANEL]) {
  float part[BLOCK][PANEL];
  memset(part, 0, rows * sizeof(part[0]));
  int64_t i = 0;
  for (; i + ROWS <= rows; i += ROWS)
    add_products<ROWS>(x + i * stride, stride, w, k, s->columns, part + i);
  if (i < rows)
    add_products<1>(x + i * stride, stride, w, k, s->columns, part + i);
  for (i = 0; i < rows; i++)
    for (int n = 0; n < PANEL; n++)
      sums[i][n] += part[i][n];
}

enum Weights { WIDE, PAIRS, BYTES };

static void block(const FloatStrip *s, int64_t row, int64_t rows, Weights kind) {
  float sums[BLOCK][PANEL] = {}, w[2 * DEPTH * PANEL], x[BLOCK][2 * DEPTH];
  const int64_t line = kind == BYTES ? PANEL : LINE_BYTES;
  for (int64_t from = 0; from < s->steps; from += DEPTH) {
    const int64_t steps = s->steps - from < DEPTH ? s->steps - from : DEPTH;
    const char *panel = (const char *)s->panel + from * line;
    const char *first = (const char *)s->x + (row * s->x_stride + from) * UNIT;
    if (kind == PAIRS) {
      widen((const uint16_t *)panel, steps, w);
      for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < 2 * steps; k++)
          x[i][k] = widened(((const uint16_t *)(first + i * s->x_stride * UNIT))[k]);
      add_rows(s, rows, x[0], 2 * DEPTH, w, 2 * steps, sums);
      continue;
    }
    if (kind == BYTES)
      for (int64_t i = 0; i < steps * PANEL; i++)
        w[i] = (float)((const int8_t *)panel)[i];
    add_rows(s, rows, (const float *)first, s->x_stride, kind == BYTES ? w : (const float *)panel, steps,
             sums);
  }
  finish(s, row, rows, sums);
}

static void multiply(const FloatStrip *s, Weights kind) {
  for (int64_t row = 0; row < s->rows; row += BLOCK)
    block(s, row, s->rows - row < BLOCK ? s->rows - row : BLOCK, kind);
}

extern "C" void gemm_f32_portable(const FloatStrip *s) { multiply(s, WIDE); }
extern "C" void gemm_bf16_portable(const FloatStrip *s) { multiply(s, PAIRS); }
extern "C" void gemm_w8_portable(const FloatStrip *s) { multiply(s, BYTES); }
extern "C" void convert_portable(const Convert *c) { convert_rows(c); }
