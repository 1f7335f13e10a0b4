// Layer normalization of rows, and their bytes, in AVX-512: the bits of rows.h, whose parts of a sum are the
// lanes of four registers. Several rows at a time: the steps from a row's sum to what follows are a long
// chain. Of what is normalized without its mean (RMS) the squares are summed at once.
#pragma once

#include "bytes_avx512.h"

enum { PARTS = SUMS / WIDTH };

// Calls what(j, at, m) for each part j of n values: its place and lanes.
template <class What>
static inline __attribute__((always_inline)) void each_part(int64_t n, const What &what) {
  int64_t first = 0;
  for (; first + SUMS <= n; first += SUMS)
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
      what(j, first + j * WIDTH, (__mmask16)0xffff);
#pragma GCC unroll 4
  for (int j = 0; j < PARTS; j++)
    if (first + j * WIDTH < n)
      what(j, first + j * WIDTH, lanes_at(first + j * WIDTH, n));
}

#define INLINE __attribute__((always_inline))

// The lanes in the order of rows.h's sum_of.
static inline float sum_avx512(const __m512 parts[PARTS]) {
  const __m512 a = _mm512_add_ps(_mm512_add_ps(parts[0], parts[2]), _mm512_add_ps(parts[1], parts[3]));
  const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}

template <int R, bool RMS>
static inline void norm_rows_avx512(const Norm *first, const Row *bytes) {
  const int64_t n = first->n;
  const int symmetric = !bytes || bytes->symmetric;
  Norm rows[R];
  __m512 parts[R][PARTS] = {}, centre[R], by[R];
  Ranges ranges[R] = {};
  EACH_ROW rows[row] = norm_at(first, row);
  each_part(n, [&](int j, int64_t at, __mmask16 m) INLINE {
    EACH_ROW {
      const Norm &r = rows[row];
      __m512 x = _mm512_maskz_loadu_ps(m, r.x + at);
      if (r.residual)
        x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(m, r.residual + at));
      _mm512_mask_storeu_ps(r.total + at, m, x);
      parts[row][j] = RMS ? _mm512_mask3_fmadd_ps(x, x, parts[row][j], m)
                          : _mm512_mask_add_ps(parts[row][j], m, parts[row][j], x);
    }
  });
  if constexpr (!RMS) {
    EACH_ROW {
      centre[row] = _mm512_set1_ps(sum_avx512(parts[row]) / (float)n);
#pragma GCC unroll 4
      for (int j = 0; j < PARTS; j++)
        parts[row][j] = _mm512_setzero_ps();
    }
    each_part(n, [&](int j, int64_t at, __mmask16 m) INLINE {
      EACH_ROW {
        const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, rows[row].total + at), centre[row]);
        parts[row][j] = _mm512_mask3_fmadd_ps(d, d, parts[row][j], m);
      }
    });
  }
  EACH_ROW by[row] = _mm512_set1_ps(1.0f / __builtin_sqrtf(sum_avx512(parts[row]) / (float)n + first->eps));
  each_part(n, [&](int, int64_t at, __mmask16 m) INLINE {
    const __m512 gamma = _mm512_maskz_loadu_ps(m, first->gamma + at);
    const __m512 beta = _mm512_maskz_loadu_ps(m, first->beta + at);
    EACH_ROW {
      const Norm &r = rows[row];
      const __m512 x = _mm512_maskz_loadu_ps(m, r.total + at);
      const __m512 d = _mm512_mul_ps(RMS ? x : _mm512_sub_ps(x, centre[row]), by[row]);
      __m512 y = _mm512_fmadd_ps(d, gamma, beta);
      _mm512_mask_storeu_ps(r.y + at, m, y);
      if (r.smoothed) {
        y = _mm512_fmadd_ps(y, _mm512_maskz_loadu_ps(m, r.smooth_scale + at),
                            _mm512_maskz_loadu_ps(m, r.smooth_shift + at));
        _mm512_mask_storeu_ps(r.smoothed + at, m, y);
      }
      see_avx512(&ranges[row], m, y, symmetric);
    }
  });
  if (!bytes || bytes->rotation)
    return;
  Ranges found[R]; // what is indexed lies in memory, where the loop's own must not be
  EACH_ROW found[row] = ranges[row];
  finish_rows<R>(bytes, found, false);
}
