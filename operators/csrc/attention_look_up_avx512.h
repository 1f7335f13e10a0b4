// attention_positions.h in AVX-512: 16 rows and 16 keys at a time. Neighbours mostly look for neighbours:
// what 16 of them find lies in two registers.
#pragma once

#include <immintrin.h>

#include "attention_positions.h"
#include "transpose_avx512.h"

enum { SQUARE = 16 };

static inline int64_t within(int64_t i, int64_t count) { return i < count ? i : count - 1; }

// from[entries - low]; first: the first of the entries.
static inline __m512 look(const float *from, __m512i entries, int32_t first, int32_t low) {
  const __m512i at = _mm512_sub_epi32(entries, _mm512_set1_epi32(first - SQUARE));
  const float *const near = from + (int64_t)first - low;
  if (_mm512_cmplt_epu32_mask(at, _mm512_set1_epi32(2 * SQUARE)) == 0xffff)
    return _mm512_permutex2var_ps(_mm512_loadu_ps(near - SQUARE), at, _mm512_loadu_ps(near));
  return _mm512_i32gather_ps(_mm512_sub_epi32(entries, _mm512_set1_epi32(low)), from, 4);
}

// Entries of keys from `key` on; those behind the last are the first one.
static inline __m512i entries_at(const int32_t *row, int64_t key, __mmask16 there) {
  return _mm512_mask_loadu_epi32(_mm512_set1_epi32(row[key]), there, row + key);
}

// y: what the keys from `key` on add to 16 rows, the last one again where there are fewer.
static inline void look_up_keys(const LookUp *l, int64_t row, int64_t key, __mmask16 there,
                                __m512i (&y)[SQUARE]) {
  const Side side = l->keys;
  const int32_t *const firsts = side.index + row * side.index_stride + key;
#pragma GCC unroll 16
  for (int i = 0; i < SQUARE; i++)
    y[i] = entries_at(side.index + within(row + i, l->rows) * side.index_stride, key, there);
  transpose(y);
#pragma GCC unroll 16
  for (int j = 0; j < SQUARE; j++) {
    const int64_t own = within(key + j, l->count), at = l->key_rows ? l->key_rows[own] - l->key_rows[0] : own;
    y[j] = _mm512_castps_si512(look(side.products + at * side.stride, y[j], firsts[own - key], side.low));
  }
  transpose(y);
}

static inline void look_up_square(const LookUp *l, int64_t row, int64_t key) {
  const __mmask16 there = l->count - key >= SQUARE ? 0xffff : (__mmask16)((1u << (l->count - key)) - 1);
  __m512i y[SQUARE] = {};
  if (l->keys.products)
    look_up_keys(l, row, key, there, y);
  const Side side = l->queries;
#pragma GCC unroll 16
  for (int i = 0; i < SQUARE; i++) {
    if (row + i >= l->rows)
      break;
    __m512 sum = _mm512_castsi512_ps(y[i]);
    const int32_t *const entries = side.index + (row + i) * side.index_stride;
    if (side.products)
      sum = _mm512_add_ps(sum, look(side.products + (row + i) * side.stride, entries_at(entries, key, there),
                                    entries[key], side.low));
    _mm512_storeu_ps(l->y + (row + i) * l->y_stride + key, sum);
  }
}

static void look_up(const LookUp *l) {
  for (int64_t row = 0; row < l->rows; row += SQUARE)
    for (int64_t key = 0; key < l->count; key += SQUARE)
      look_up_square(l, row, key);
}
