// Keys and values as pairs of bfloat16, as vdpbf16ps takes them: 32 bits hold two neighbours along the axis
// that is summed over. Keys: tiles of 64 (the last one narrower, a multiple of 16), each [pairs of columns,
// keys]. Values: [pairs of keys, columns rounded up to 16]. Padding is zero.
#pragma once

#include <immintrin.h>

#include "attention.h"
#include "transpose_avx512.h"

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

static inline __m512i to_bf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

static inline __m512 to_float(__m256i bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

// 16 elements as float; zeros where the mask is.
template <bool BF16>
static inline __m512 load(const void *base, int64_t at, __mmask16 m) {
  return BF16 ? to_float(_mm256_maskz_loadu_epi16(m, (const uint16_t *)base + at))
              : _mm512_maskz_loadu_ps(m, (const float *)base + at);
}

// Twice 16 elements as bfloat16.
template <bool BF16>
static inline __m512i load_two(const void *base, int64_t at, __mmask16 m, int64_t next, __mmask16 next_m) {
  if (!BF16)
    return to_bf16(load<false>(base, at, m), load<false>(base, next, next_m));
  const __m256i low = _mm256_maskz_loadu_epi16(m, (const uint16_t *)base + at);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low),
                            _mm256_maskz_loadu_epi16(next_m, (const uint16_t *)base + next), 1);
}

// vdpbf16ps: sum += a.low * b.low + a.high * b.high. In a large tile the intrinsic makes g++ 12 spill the
// sums.
static inline void dot(__m512 &sum, __m512i a, __m512i b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

// c[i][j] += sum over pairs of a[i, pair] * b[pair, 16 j ...], two products for each pair.
template <int R, int V>
static inline __attribute__((always_inline)) void multiply(__m512 (&c)[R][V], const int32_t *a,
                                                           int64_t a_stride, const int32_t *b,
                                                           int64_t b_stride, int64_t pairs) {
  for (int64_t pair = 0; pair < pairs; pair++, a++, b += b_stride) {
    __m512i column[V];
    UNROLL
    for (int j = 0; j < V; j++)
      column[j] = _mm512_loadu_si512(b + j * LANES);
    UNROLL
    for (int i = 0; i < R; i++) {
      const __m512i row = _mm512_set1_epi32(a[i * a_stride]);
      UNROLL
      for (int j = 0; j < V; j++)
        dot(c[i][j], row, column[j]);
    }
  }
}

// The larger of two that are not negative, by their bits: NaN is the largest.
static inline __m512 largest_of(__m512 a, __m512 b) {
  return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

static inline float largest_lane(__m512 a) {
  const uint32_t bits = _mm512_reduce_max_epu32(_mm512_castps_si512(a));
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

// Heads by value: a store could change what a pointer shows, and it would be read again after each.
template <bool BF16>
static void pack_keys(const Head h, const Packed p) {
  __m512 longest = _mm512_setzero_ps();
  for (int64_t key = 0; key < p.keys; key += LANES) {
    const int64_t tile = key / TILE * TILE, width = smaller(TILE, p.keys - tile);
    int32_t *to = p.k + tile * p.pairs + (key - tile);
    const __mmask16 there = lanes(h.count - key);
    int64_t row[LANES];
    for (int i = 0; i < LANES; i++)
      row[i] = key_row(&h, smaller(key + i, h.count - 1)) * h.stride;
    __m512 squares[4] = {}; // four chains of sums
    for (int64_t pair = 0; pair < p.pairs; pair += LANES, to += LANES * width) {
      const int64_t c = 2 * pair;
      const __mmask16 low = lanes(h.d - c), high = lanes(h.d - c - LANES);
      __m512i z[LANES];
      UNROLL
      for (int i = 0; i < LANES; i++)
        z[i] = load_two<BF16>(h.k, row[i] + c, low, row[i] + c + LANES, high);
      transpose(z);
      UNROLL
      for (int i = 0; i < LANES; i++) {
        z[i] = _mm512_maskz_mov_epi32(there, z[i]);
        dot(squares[i % 4], z[i], z[i]);
        if (pair + i < p.pairs)
          _mm512_storeu_si512(to + i * width, z[i]);
      }
    }
    longest = largest_of(longest, (squares[0] + squares[1]) + (squares[2] + squares[3]));
  }
  *p.longest = __builtin_sqrtf(largest_lane(longest));
}

template <bool BF16>
static void pack_values(const Head h, const Packed p) {
  const __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i zip = _mm512_or_si512(at, _mm512_slli_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(16)), 16));
  int32_t *to = p.v;
  for (int64_t key = 0; key < h.count; key += 2, to += p.columns) {
    const int64_t row = key_row(&h, key) * h.stride,
                  next = key_row(&h, smaller(key + 1, h.count - 1)) * h.stride;
    for (int64_t c = 0; c < p.columns; c += LANES) {
      const __mmask16 m = lanes(h.d - c);
      const __m512i z = load_two<BF16>(h.v, row + c, m, next + c, key + 1 < h.count ? m : 0);
      _mm512_storeu_si512(to + c, _mm512_permutexvar_epi16(zip, z));
    }
  }
}
