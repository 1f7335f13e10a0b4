// turn.h once more, in AVX-512: the same bits. What a row spans is found while it is turned.
#pragma once

#include "bytes_avx512.h"

enum {
  TURNED = 8,
  SPAN = TURNED * WIDTH
}; // registers, and their values, that are turned at once: MAX_ROTATION

// Within registers: of each pair of lanes `APART` apart the sum in the first and the difference in the
// second. A product with 1 or -1 is exact, so that the multiply-add rounds once, as a sum does.
template <int APART>
static inline __m512 turn_lanes(__m512 x, __m512 signs) {
  __m512 other;
  if (APART == 1)
    other = _mm512_permute_ps(x, 0xb1);
  else if (APART == 2)
    other = _mm512_permute_ps(x, 0x4e);
  else if (APART == 4)
    other = _mm512_shuffle_f32x4(x, x, 0xb1);
  else
    other = _mm512_shuffle_f32x4(x, x, 0x4e);
  return _mm512_fmadd_ps(x, signs, other);
}

// 1 in the lanes that come first of their pair, -1 in the others.
template <int APART>
static inline __m512 signs_of() {
  const __mmask16 second = APART == 1 ? 0xaaaa : APART == 2 ? 0xcccc : APART == 4 ? 0xf0f0 : 0xff00;
  return _mm512_mask_blend_ps(second, _mm512_set1_ps(1), _mm512_set1_ps(-1));
}

template <int APART>
static inline void turn_within(__m512 (&y)[TURNED]) {
  const __m512 signs = signs_of<APART>();
#pragma GCC unroll 8
  for (int i = 0; i < TURNED; i++)
    y[i] = turn_lanes<APART>(y[i], signs);
}

template <int APART> // in registers
static inline void turn_across(__m512 (&y)[TURNED]) {
#pragma GCC unroll 8
  for (int i = 0; i < TURNED; i++)
    if (!(i & APART)) {
      const __m512 a = y[i], b = y[i + APART];
      y[i] = _mm512_add_ps(a, b), y[i + APART] = _mm512_sub_ps(a, b);
    }
}

static inline void turn_span(const float *x, int32_t block, float *to, Ranges *seen, int symmetric) {
  __m512 y[TURNED];
#pragma GCC unroll 8
  for (int i = 0; i < TURNED; i++)
    y[i] = _mm512_loadu_ps(x + i * WIDTH);
  turn_within<1>(y);
  if (block > 2)
    turn_within<2>(y);
  if (block > 4)
    turn_within<4>(y);
  if (block > 8)
    turn_within<8>(y);
  if (block > 16)
    turn_across<1>(y);
  if (block > 32)
    turn_across<2>(y);
  if (block > 64)
    turn_across<4>(y);
#pragma GCC unroll 8
  for (int i = 0; i < TURNED; i++) {
    _mm512_storeu_ps(to + i * WIDTH, y[i]);
    see_avx512(seen, 0xffff, y[i], symmetric);
  }
}

static inline Ranges turn_avx512(const Row *r, float *to) {
  const int symmetric = r->symmetric || r->fixed_scale > 0;
  const int64_t spans = r->k / SPAN * SPAN;
  Ranges seen = {};
  for (int64_t i = 0; i < spans; i += SPAN)
    turn_span(r->x + i, r->rotation, to + i, &seen, symmetric);
  turn_row(r->x + spans, r->k - spans, r->rotation, to + spans);
  for (int64_t i = spans; i < r->k; i += WIDTH) {
    const __mmask16 m = lanes_at(i, r->k);
    see_avx512(&seen, m, _mm512_maskz_loadu_ps(m, to + i), symmetric);
  }
  return seen;
}

template <int R>
static inline void turn_rows_avx512(const Row *first, float *to) {
  Ranges ranges[R];
  EACH_ROW {
    const Row r = row_at(first, row);
    ranges[row] = turn_avx512(&r, to + row * r.k);
  }
  Row turned = *first;
  turned.x = to;
  finish_rows<R>(&turned, ranges, false);
}
