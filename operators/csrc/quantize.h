// Activations to bytes, one row at a time. Each instruction set's file compiles its own copy of this; it is
// written so that compilers vectorize it: reductions on integers only, rounding by addition, no branches in
// loops.
#pragma once

#include "kernels.h"

static inline int32_t bits_of(float f) {
  int32_t i;
  memcpy(&i, &f, 4);
  return i;
}

static inline float float_of(int32_t i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}

// round half to even, for |v| < 2**22: at 1.5 * 2**23 the last bit of a float is worth one
static inline int32_t round_even(float v) { return bits_of(v + 12582912.0f) - 0x4b400000; }

static inline int32_t clamp(int32_t v, int32_t low, int32_t high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}

// The order of floats as an order of integers, and back (its own inverse).
static inline int32_t ordered(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }

// What a row's values span, as integers in the order of the floats: the largest size, the least and the
// largest value. 0 is in every range.
typedef struct {
  int32_t most, least, largest;
} Range;

static inline void see(Range *range, float value, int symmetric) {
  const int32_t bits = bits_of(value), size = bits & 0x7fffffff;
  range->most = size > range->most ? size : range->most; // NaN and infinity are the largest
  if (!symmetric) {
    const int32_t order = ordered(bits);
    range->least = order < range->least ? order : range->least;
    range->largest = order > range->largest ? order : range->largest;
  }
}

static inline Range range_of(const float *__restrict x, int64_t k, int symmetric) {
  Range range = {0, 0, 0};
  if (symmetric) // two loops: compilers vectorize each
    for (int64_t i = 0; i < k; i++)
      see(&range, x[i], 1);
  else
    for (int64_t i = 0; i < k; i++)
      see(&range, x[i], 0);
  return range;
}

// Plain locals that alias nothing: a store to bytes could otherwise change the row's own description.
static inline void scale_row(const float *__restrict x, int64_t k, float inverse, int32_t zero, int32_t least,
                             uint8_t *__restrict q) {
  for (int64_t i = 0; i < k; i++)
    q[i] = (uint8_t)clamp(round_even(x[i] * inverse) + zero, least, 255);
}

// How the values of a row become bytes: round(x * inverse) + zero, within least and 255.
typedef struct {
  float inverse;
  int32_t zero, least;
  int finite; // else every byte is zero
} Levels;

// Writes the row's scale and zero point too.
static inline Levels levels_of(const Row *r, Range range) {
  const float amax = float_of(range.most), low = float_of(ordered(range.least)),
              high = float_of(ordered(range.largest));
  float scale = r->symmetric ? amax / 127.0f : (high - low) / 255.0f;
  if (scale < 0x1p-126f)
    scale = 1.0f; // zeros, or so small that the inverse could overflow
  const int finite = __builtin_isfinite(amax) && __builtin_isfinite(scale);
  const float inverse = 1.0f / scale;
  int32_t zero = 128;
  if (!r->symmetric)
    zero = finite ? clamp(round_even(-low * inverse), 0, 255) : 0;
  *r->scale = finite ? scale : __builtin_nanf("");
  *r->zero_point = zero;
  return (Levels){inverse, zero, r->symmetric ? 1 : 0, finite};
}

static inline void quantize_ranged(const Row *r, Range range) {
  const Levels l = levels_of(r, range);
  if (l.finite)
    scale_row(r->x, r->k, l.inverse, l.zero, l.least, r->q);
  else
    memset(r->q, l.zero, r->k);
}

// As scale_row, where values may lie far outside of the range. -> the largest size, as in Range.
static inline int32_t scale_far_row(const float *__restrict x, int64_t k, float inverse, int32_t zero,
                                    int32_t least, uint8_t *__restrict q) {
  const int32_t FAR = 0x44000000; // 512: beyond 255 levels to either side, and round_even holds
  int32_t most = 0;
  for (int64_t i = 0; i < k; i++) {
    const int32_t size = bits_of(x[i]) & 0x7fffffff;
    most = size > most ? size : most;
    const int32_t level = bits_of(x[i] * inverse), high = level & 0x7fffffff;
    const float near = float_of((high < FAR ? high : FAR) | (level & INT32_MIN));
    q[i] = (uint8_t)clamp(round_even(near) + zero, least, 255);
  }
  return most;
}

// The rest of a row with a fixed scale, once its bytes are there; most: its largest size, as in Range.
static inline void finish_fixed(const Row *r, int32_t most) {
  const int finite = most < 0x7f800000;
  *r->scale = finite ? r->fixed_scale : __builtin_nanf("");
  *r->zero_point = r->fixed_zero;
  if (!finite)
    memset(r->q, r->fixed_zero, r->k);
}

static inline void quantize_fixed(const Row *r) {
  finish_fixed(r,
               scale_far_row(r->x, r->k, 1.0f / r->fixed_scale, r->fixed_zero, r->symmetric ? 1 : 0, r->q));
}

// Of a row that is not turned.
static inline void quantize_plain(const Row *r) {
  if (r->fixed_scale > 0)
    quantize_fixed(r);
  else
    quantize_ranged(r, range_of(r->x, r->k, r->symmetric));
}
