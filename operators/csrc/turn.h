// Rows of activations turned by blocks of 2 to MAX_ROTATION values before they become bytes:
// operators/reference.py's rotated, with its order of sums, and so its bits.
#pragma once

#include "quantize.h"

// y = the row x; may not be x.
static inline void turn_row(const float *__restrict x, int64_t k, int32_t block, float *__restrict y) {
  const int64_t whole = k / block * block;
  memcpy(y, x, k * sizeof(float));
  for (int64_t apart = 1; apart < block; apart *= 2)
    for (int64_t first = 0; first < whole; first += 2 * apart)
      for (int64_t i = first; i < first + apart; i++) {
        const float a = y[i], b = y[i + apart];
        y[i] = a + b, y[i + apart] = a - b;
      }
}

static inline void quantize_turned(const Row *r) {
  float turned[MAX_K];
  Row row = *r;
  turn_row(r->x, r->k, r->rotation, turned);
  row.x = turned;
  quantize_plain(&row);
}

static inline void quantize_row(const Row *r) {
  if (r->rotation)
    quantize_turned(r);
  else
    quantize_plain(r);
}
