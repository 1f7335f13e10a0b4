// The loops that the vector kernels for floats share. A is one instruction set's arithmetic on one kind of
// weights: Vec, LANES, zero(), add(float *to, Vec); WEIGHT (bytes of one column's weights of a step), PARTS
// (products that a step takes), ahead(w), weights(w, part) and value(x, part), the values of a part, Values
// and one repeated, and fma(sum, value, weights).
#pragma once

#include "float.h"

#define UNROLL _Pragma("GCC unroll 8")

enum {
  BLOCK_ROWS = 48, // rows whose sums are in memory at a time
  DEPTH = 256 // steps whose weights stay in the L2 cache for all of these rows; and sums of at most so many
              // terms are added up before they meet the others: shorter chains, smaller errors
};

// Adds one step of all rows to the sums c.
template <class A, int ROWS, int VECTORS>
static inline void step(typename A::Vec (&c)[ROWS][VECTORS], const char *w, const char *x, int64_t stride) {
  A::ahead(w);
  UNROLL
  for (int part = 0; part < A::PARTS; part++) {
    typename A::Values b[VECTORS];
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      b[j] = A::weights(w + j * A::LANES * A::WEIGHT, part);
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      const typename A::Values a = A::value(x + i * stride, part);
      UNROLL
      for (int j = 0; j < VECTORS; j++)
        A::fma(c[i][j], a, b[j]);
    }
  }
}

// Columns first .. first + VECTORS * LANES.
template <class A, int ROWS, int VECTORS>
static inline void part(const FloatStrip *s, int64_t row, int64_t from, int64_t steps, int first,
                        float (*sums)[PANEL]) {
  typename A::Vec c[ROWS][VECTORS];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    c[i][j] = A::zero();
  const char *x = (const char *)s->x + (row * s->x_stride + from) * UNIT;
  const char *w = (const char *)s->panel + (from * PANEL + first) * A::WEIGHT;
  const int64_t stride = s->x_stride * UNIT;
  for (int64_t at = 0; at < steps; at++, x += UNIT, w += PANEL * A::WEIGHT)
    step<A, ROWS, VECTORS>(c, w, x, stride);
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    A::add(sums[i] + first + j * A::LANES, c[i][j]);
}

// VECTORS registers wide, as often as the columns need it.
template <class A, int ROWS, int VECTORS>
static void tile(const FloatStrip *s, int64_t row, int64_t from, int64_t steps, float (*sums)[PANEL]) {
  for (int first = 0; first < s->columns; first += VECTORS * A::LANES)
    part<A, ROWS, VECTORS>(s, row, from, steps, first, sums);
}

typedef void (*Tile)(const FloatStrip *, int64_t, int64_t, int64_t, float (*)[PANEL]);

// tiles[r]: a tile of r rows; the tallest has `most`
static inline void multiply(const FloatStrip *s, const Tile *tiles, int most) {
  for (int64_t row = 0; row < s->rows; row += BLOCK_ROWS) {
    const int64_t rows = s->rows - row < BLOCK_ROWS ? s->rows - row : BLOCK_ROWS;
    float sums[BLOCK_ROWS][PANEL];
    memset(sums, 0, rows * sizeof(sums[0]));
    for (int64_t from = 0; from < s->steps; from += DEPTH) {
      const int64_t steps = s->steps - from < DEPTH ? s->steps - from : DEPTH;
      for (int64_t i = 0; i < rows; i += most)
        tiles[rows - i < most ? rows - i : most](s, row + i, from, steps, sums + i);
    }
    finish(s, row, rows, sums);
  }
}
