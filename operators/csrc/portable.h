// The product that the portable kernels share, in vectors that any compiler of C++ with GNU extensions maps
// to what the CPU has (4 floats: SSE2 on x86_64, NEON on ARM).
#pragma once

#include "kernels.h"

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// sums[ROWS][64] += x[ROWS][k] times w[k][64], in tiles of ROWS by 16 columns; only the first `columns` are
// wanted.
template <int ROWS>
static inline void add_products(const float *x, int64_t x_stride, const float *w, int64_t k, int64_t columns,
                                float (*sums)[PANEL]) {
  for (int first = 0; first < columns; first += 16) {
    Four c[ROWS][4];
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < 4; j++)
        c[i][j] = *(const Four *)(sums[i] + first + 4 * j);
    for (int64_t at = 0; at < k; at++) {
      const float *b = w + at * PANEL + first;
      for (int i = 0; i < ROWS; i++) {
        const float a = x[i * x_stride + at];
        for (int j = 0; j < 4; j++)
          c[i][j] += a * *(const Four *)(b + 4 * j);
      }
    }
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < 4; j++)
        *(Four *)(sums[i] + first + 4 * j) = c[i][j];
  }
}
