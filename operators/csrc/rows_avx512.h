// rows.h and quantize.h once more, in AVX-512: the same bits with fewer passes over a row. What a row spans
// is found while its values are still in registers, and the parts of a sum are the lanes of four registers.
#pragma once

#include <immintrin.h>

#include "rows.h"

enum { WIDTH = 16, PARTS = SUMS / WIDTH };

// Lanes of a register at `at` of a row of n values.
static inline __mmask16 lanes_at(int64_t at, int64_t n) {
  return n - at >= WIDTH ? 0xffff : (__mmask16)((1u << (n - at)) - 1);
}

static inline __m512 gelu_avx512(__m512 x) {
  const __m512i square = _mm512_castps_si512(_mm512_mul_ps(x, x));
  const __m512 u = _mm512_castsi512_ps(_mm512_min_epi32(square, _mm512_set1_epi32(GELU_BOUND)));
  __m512 p = _mm512_set1_ps(GELU_TERMS[0]);
#pragma GCC unroll 16
  for (int i = 1; i < (int)(sizeof(GELU_TERMS) / sizeof(GELU_TERMS[0])); i++)
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(GELU_TERMS[i]));
  const __m512i share = _mm512_castps_si512(_mm512_fmadd_ps(p, x, _mm512_set1_ps(0.5f)));
  const __m512i least = _mm512_max_epi32(share, _mm512_setzero_si512());
  return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_min_epi32(least, _mm512_set1_epi32(0x3f800000))));
}

// Range, for 16 rows' worth of lanes; most of it for symmetric rows, the others for asymmetric ones.
typedef struct {
  __m512i most;
  __m512 least, largest; // mean nothing where there is a NaN, which `most` tells
} Ranges;

static inline void see_avx512(Ranges *r, __mmask16 m, __m512 x, int symmetric) {
  const __m512i bits = _mm512_castps_si512(x), plain = _mm512_set1_epi32(0x7fffffff);
  r->most = _mm512_mask_max_epi32(r->most, m, r->most, _mm512_and_si512(bits, plain));
  if (!symmetric) {
    r->least = _mm512_mask_min_ps(r->least, m, r->least, x);
    r->largest = _mm512_mask_max_ps(r->largest, m, r->largest, x);
  }
}

static inline Range range_avx512(const Ranges *r, int symmetric) {
  Range range = {_mm512_reduce_max_epi32(r->most), 0, 0};
  if (!symmetric) {
    range.least = ordered(bits_of(_mm512_reduce_min_ps(r->least)));
    range.largest = ordered(bits_of(_mm512_reduce_max_ps(r->largest)));
  }
  return range;
}

// A row's bytes: x * by, to an integer (which rounds half to even, as adding 1.5 * 2**23 does), + add, within
// low and 255; FAR: x may lie far outside of the range.
typedef struct {
  __m512 by;
  __m512i add, low;
} Steps;

static inline Steps steps_of(float inverse, int32_t zero, int32_t least) {
  return {_mm512_set1_ps(inverse), _mm512_set1_epi32(zero), _mm512_set1_epi32(least)};
}

template <bool FAR>
static inline void store_bytes(uint8_t *q, __mmask16 m, Steps s, __m512 x) {
  __m512 level = _mm512_mul_ps(x, s.by);
  if (FAR) // beyond 255 levels to either side
    level = _mm512_min_ps(_mm512_max_ps(level, _mm512_set1_ps(-512)), _mm512_set1_ps(512));
  const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(level), s.add);
  _mm_mask_storeu_epi8(q, m, _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, s.low)));
}

template <bool FAR>
static inline void scale_avx512(const float *x, int64_t k, Steps s, uint8_t *q) {
  const int64_t whole = k / WIDTH * WIDTH;
  for (int64_t i = 0; i < whole; i += WIDTH)
    store_bytes<FAR>(q + i, 0xffff, s, _mm512_loadu_ps(x + i));
  if (whole < k)
    store_bytes<FAR>(q + whole, lanes_at(whole, k), s, _mm512_maskz_loadu_ps(lanes_at(whole, k), x + whole));
}

static inline Steps fixed_steps(const Row *r) {
  return steps_of(1.0f / r->fixed_scale, r->fixed_zero, r->symmetric ? 1 : 0);
}

// The rest of a row, once it is known what it spans; with a fixed scale its bytes may be there already.
static inline void finish_row(const Row *r, const Ranges *ranges, bool bytes) {
  if (r->fixed_scale > 0) {
    if (!bytes)
      scale_avx512<true>(r->x, r->k, fixed_steps(r), r->q);
    return finish_fixed(r, _mm512_reduce_max_epi32(ranges->most));
  }
  const Levels l = levels_of(r, range_avx512(ranges, r->symmetric));
  if (l.finite)
    scale_avx512<false>(r->x, r->k, steps_of(l.inverse, l.zero, l.least), r->q);
  else
    memset(r->q, l.zero, r->k);
  memset(r->q + r->k, 0, r->padded - r->k);
}

static inline void quantize_row_avx512(const Row *r) {
  const int64_t whole = r->k / WIDTH * WIDTH;
  const int symmetric = r->symmetric || r->fixed_scale > 0;
  Ranges ranges = {};
  for (int64_t i = 0; i < whole; i += WIDTH)
    see_avx512(&ranges, 0xffff, _mm512_loadu_ps(r->x + i), symmetric);
  if (whole < r->k) {
    const __mmask16 m = lanes_at(whole, r->k);
    see_avx512(&ranges, m, _mm512_maskz_loadu_ps(m, r->x + whole), symmetric);
  }
  finish_row(r, &ranges, false);
}

// The lanes in the order of rows.h's sum_of.
static inline float sum_avx512(const __m512 parts[PARTS]) {
  const __m512 a = _mm512_add_ps(_mm512_add_ps(parts[0], parts[2]), _mm512_add_ps(parts[1], parts[3]));
  const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}

// Lanes `m` of a row's part j: x plus residual to y, and to the sum.
static inline __m512 add_avx512(const Norm *r, int64_t at, __mmask16 m, __m512 sum) {
  __m512 x = _mm512_maskz_loadu_ps(m, r->x + at);
  if (r->residual)
    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(m, r->residual + at));
  _mm512_mask_storeu_ps(r->y + at, m, x);
  return _mm512_mask_add_ps(sum, m, sum, x);
}

static inline __m512 square_avx512(const float *y, __mmask16 m, __m512 centre, __m512 sum) {
  const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, y), centre);
  return _mm512_mask3_fmadd_ps(d, d, sum, m);
}

static inline void finish_avx512(const Norm *r, int64_t at, __mmask16 m, __m512 centre, __m512 by,
                                 Ranges *ranges, int symmetric) {
  const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, r->y + at), centre), by);
  __m512 y =
      _mm512_fmadd_ps(d, _mm512_maskz_loadu_ps(m, r->gamma + at), _mm512_maskz_loadu_ps(m, r->beta + at));
  _mm512_mask_storeu_ps(r->y + at, m, y);
  if (r->smoothed) {
    y = _mm512_fmadd_ps(y, _mm512_maskz_loadu_ps(m, r->smooth_scale + at),
                        _mm512_maskz_loadu_ps(m, r->smooth_shift + at));
    _mm512_mask_storeu_ps(r->smoothed + at, m, y);
  }
  see_avx512(ranges, m, y, symmetric);
}

// norm_row; what its last result, y or smoothed, spans goes to `ranges`.
static inline void norm_avx512(const Norm *r, Ranges *ranges, int symmetric) {
  const int64_t n = r->n, whole = n / SUMS * SUMS;
  __m512 parts[PARTS] = {};
  for (int64_t i = 0; i < whole; i += SUMS)
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
      parts[j] = add_avx512(r, i + j * WIDTH, 0xffff, parts[j]);
  for (int64_t i = whole; i < n; i += WIDTH)
    parts[(i - whole) / WIDTH] = add_avx512(r, i, lanes_at(i, n), parts[(i - whole) / WIDTH]);
  const __m512 centre = _mm512_set1_ps(sum_avx512(parts) / (float)n);
  for (int j = 0; j < PARTS; j++)
    parts[j] = _mm512_setzero_ps();
  for (int64_t i = 0; i < whole; i += SUMS)
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
      parts[j] = square_avx512(r->y + i + j * WIDTH, 0xffff, centre, parts[j]);
  for (int64_t i = whole; i < n; i += WIDTH)
    parts[(i - whole) / WIDTH] = square_avx512(r->y + i, lanes_at(i, n), centre, parts[(i - whole) / WIDTH]);
  const __m512 by = _mm512_set1_ps(1.0f / __builtin_sqrtf(sum_avx512(parts) / (float)n + r->eps));
  for (int64_t i = 0; i < whole; i += SUMS)
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
      finish_avx512(r, i + j * WIDTH, 0xffff, centre, by, ranges, symmetric);
  for (int64_t i = whole; i < n; i += WIDTH)
    finish_avx512(r, i, lanes_at(i, n), centre, by, ranges, symmetric);
}

// One vector of a row to its GELU; FIXED: to bytes at once.
template <bool FIXED>
static inline void gelu_at(float *x, int64_t at, __mmask16 m, const Row *r, Steps s, Ranges *ranges) {
  const __m512 y = gelu_avx512(_mm512_maskz_loadu_ps(m, x + at));
  see_avx512(ranges, m, y, FIXED || r->symmetric);
  if (FIXED)
    store_bytes<true>(r->q + at, m, s, y);
  else
    _mm512_mask_storeu_ps(x + at, m, y);
}

template <bool FIXED>
static inline void gelu_row_avx512(float *x, const Row *r) {
  const int64_t whole = r->k / WIDTH * WIDTH;
  const Steps s = FIXED ? fixed_steps(r) : Steps();
  Ranges ranges = {};
  for (int64_t i = 0; i < whole; i += WIDTH)
    gelu_at<FIXED>(x, i, 0xffff, r, s, &ranges);
  if (whole < r->k)
    gelu_at<FIXED>(x, whole, lanes_at(whole, r->k), r, s, &ranges);
  finish_row(r, &ranges, FIXED);
}

// What a file for an instruction set with AVX-512 defines besides gemm_NAME.
#define ROW_KERNELS_AVX512(name)                                                                             \
  extern "C" void quantize_##name(const Row *r) { quantize_row_avx512(r); }                                  \
  extern "C" void gelu_##name(float *x, const Row *r) {                                                      \
    r->fixed_scale > 0 ? gelu_row_avx512<true>(x, r) : gelu_row_avx512<false>(x, r);                         \
  }                                                                                                          \
  extern "C" void norm_##name(const Norm *n, const Row *r) {                                                 \
    Ranges ranges = {};                                                                                      \
    norm_avx512(n, &ranges, !r || r->symmetric);                                                             \
    if (r)                                                                                                   \
      finish_row(r, &ranges, false);                                                                         \
  }
