// Keys and values as pairs of bfloat16, as vdpbf16ps takes them: 32 bits hold two neighbours along the axis
// that is summed over. Keys: tiles of 64 (the last one narrower, a multiple of 16), each [pairs of columns,
// keys]. Values: [pairs of keys, columns rounded up to 16]. Padding is zero.
#pragma once

#include <immintrin.h>

#include "attention.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { LANES = 16, TILE = 64 };

typedef struct {
  int64_t pairs, columns, keys; // pairs of columns of a key; padded columns of a value; padded keys
  float *longest;               // the largest Euclidean norm of a key
  int32_t *k, *v;
} Packed;

static inline int64_t packed_bytes(int64_t count, int64_t d) {
  return 64 + round_up(count, LANES) * (round_up(d, 2) + round_up(d, LANES)) * 2;
}

static inline Packed packed_of(const Head *h) {
  Packed p;
  p.pairs = (h->d + 1) / 2, p.columns = round_up(h->d, LANES), p.keys = round_up(h->count, LANES);
  p.longest = (float *)h->packed;
  p.k = (int32_t *)h->packed + 16;
  p.v = p.k + p.keys * p.pairs;
  return p;
}

static inline __mmask16 lanes(int64_t left) {
  return left >= LANES ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

// Columns c..c+15 of a row; zeros from column d on.
static inline __m512 load_columns(const void *base, int bf16, int64_t row_start, int64_t c, int64_t d) {
  const __mmask16 m = lanes(d - c);
  if (!bf16)
    return _mm512_maskz_loadu_ps(m, (const float *)base + row_start + c);
  const __m256i half = _mm256_maskz_loadu_epi16(m, (const uint16_t *)base + row_start + c);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline __m512i to_bf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// vdpbf16ps: sum += a.low * b.low + a.high * b.high. In a large tile the intrinsic makes g++ 12 spill the
// sums.
static inline void dot(__m512 &sum, __m512i a, __m512i b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

// 16 x 16 transpose of 32-bit elements: at step s, rows that differ in bit s exchange columns that differ in
// it.
static inline void transpose(__m512i (&z)[LANES]) {
  const __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  UNROLL
  for (int s = 1; s < LANES; s *= 2) {
    const __mmask16 odd = s == 1 ? 0xaaaa : s == 2 ? 0xcccc : s == 4 ? 0xf0f0 : 0xff00;
    const __m512i upper = _mm512_mask_add_epi32(at, odd, at, _mm512_set1_epi32(LANES - s));
    const __m512i lower =
        _mm512_mask_add_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(s)), odd, at, _mm512_set1_epi32(LANES));
    UNROLL
    for (int i = 0; i < LANES; i++)
      if (!(i & s)) {
        const __m512i a = z[i], b = z[i + s];
        z[i] = _mm512_permutex2var_epi32(a, upper, b);
        z[i + s] = _mm512_permutex2var_epi32(a, lower, b);
      }
  }
}

static inline void pack_keys(const Head *h, const Packed *p) {
  __m512 longest = _mm512_setzero_ps();
  for (int64_t key = 0; key < p->keys; key += LANES) {
    const int64_t tile = key / TILE * TILE, width = smaller(TILE, p->keys - tile);
    int32_t *to = p->k + tile * p->pairs + (key - tile);
    __m512 squares = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < p->pairs; pair += LANES) {
      __m512i z[LANES];
      UNROLL
      for (int i = 0; i < LANES; i++) {
        const int64_t row = key + i < h->count ? key_row(h, key + i) * h->stride : 0;
        const int64_t d = key + i < h->count ? h->d : 0;
        z[i] = to_bf16(load_columns(h->k, h->bf16, row, 2 * pair, d),
                       load_columns(h->k, h->bf16, row, 2 * pair + LANES, d));
      }
      transpose(z);
      UNROLL
      for (int i = 0; i < LANES; i++) {
        dot(squares, z[i], z[i]);
        if (pair + i < p->pairs)
          _mm512_storeu_si512(to + (pair + i) * width, z[i]);
      }
    }
    longest = _mm512_max_ps(longest, squares); // a NaN here is lost or kept: its scores are NaN anyway
  }
  *p->longest = __builtin_sqrtf(_mm512_reduce_max_ps(longest));
}

static inline void pack_values(const Head *h, const Packed *p) {
  const __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i zip = _mm512_or_si512(at, _mm512_slli_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(16)), 16));
  int32_t *to = p->v;
  for (int64_t key = 0; key < h->count; key += 2) {
    const int64_t row = key_row(h, key) * h->stride, d = key + 1 < h->count ? h->d : 0;
    const int64_t next = d ? key_row(h, key + 1) * h->stride : 0;
    for (int64_t c = 0; c < p->columns; c += LANES, to += LANES) {
      const __m512i z =
          to_bf16(load_columns(h->v, h->bf16, row, c, h->d), load_columns(h->v, h->bf16, next, c, d));
      _mm512_storeu_si512(to, _mm512_permutexvar_epi16(zip, z));
    }
  }
}
