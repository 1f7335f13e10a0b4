// GELU of rows, and their bytes, in AVX-512: the bits of rows.h.
#pragma once

#include "bytes_avx512.h"

enum { GELUS = 8 }; // registers of values that are computed side by side

// GELU of N registers, step by step for all of them: a CPU does not see far enough ahead to find the steps of
// the next register while it waits for this one's.
template <int N>
static inline void gelu_avx512(__m512 (&y)[N], const __m512 (&x)[N], const Gelu &by) {
  __m512 u[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; j++) {
    const __m512i square = _mm512_castps_si512(_mm512_mul_ps(x[j], x[j]));
    u[j] = _mm512_castsi512_ps(_mm512_min_epi32(square, _mm512_set1_epi32(by.bound)));
    y[j] = _mm512_set1_ps(by.terms[0]);
  }
#pragma GCC unroll 16
  for (int i = 1; i < GELU_TERMS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < N; j++)
      y[j] = _mm512_fmadd_ps(y[j], u[j], _mm512_set1_ps(by.terms[i]));
#pragma GCC unroll 8
  for (int j = 0; j < N; j++) {
    const __m512i share = _mm512_castps_si512(_mm512_fmadd_ps(y[j], x[j], _mm512_set1_ps(0.5f)));
    const __m512i least = _mm512_max_epi32(share, _mm512_setzero_si512());
    y[j] = _mm512_mul_ps(x[j], _mm512_castsi512_ps(_mm512_min_epi32(least, _mm512_set1_epi32(0x3f800000))));
  }
}

// N registers of a row, the last one's lanes `m`, to their GELU; FIXED: to bytes at once.
template <int N, bool FIXED>
static inline void gelu_at(float *x, uint8_t *q, __mmask16 m, Steps s, Ranges *ranges, int symmetric,
                           const Gelu &by) {
  __m512 in[N], y[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; j++)
    in[j] = _mm512_maskz_loadu_ps(j < N - 1 ? 0xffff : m, x + j * WIDTH);
  gelu_avx512<N>(y, in, by);
#pragma GCC unroll 8
  for (int j = 0; j < N; j++) {
    const __mmask16 lanes = j < N - 1 ? 0xffff : m;
    see_avx512(ranges, lanes, y[j], symmetric);
    if (FIXED)
      store_bytes<true>(q + j * WIDTH, lanes, s, y[j]);
    else
      _mm512_mask_storeu_ps(x + j * WIDTH, lanes, y[j]);
  }
}

template <int R, bool FIXED>
static inline void gelu_rows_avx512(float *x, const Row *first, const Gelu &by) {
  const int64_t k = first->k;
  const int symmetric = FIXED || first->symmetric;
  const Steps s = FIXED ? fixed_steps(first) : Steps();
  Ranges ranges[R];
  for (int row = 0; row < R; row++, x += k) {
    uint8_t *q = first->q + row * k;
    Ranges seen = {};
    int64_t i = 0;
    for (; i + GELUS * WIDTH <= k; i += GELUS * WIDTH)
      gelu_at<GELUS, FIXED>(x + i, q + i, 0xffff, s, &seen, symmetric, by);
    for (; i < k; i += WIDTH)
      gelu_at<1, FIXED>(x + i, q + i, lanes_at(i, k), s, &seen, symmetric, by);
    ranges[row] = seen;
  }
  finish_rows<R>(first, ranges, FIXED);
}

template <int R>
static inline void gelu_rows_avx512(float *x, const Row *first, int by_tanh) {
  const Gelu &by = by_tanh ? GELU_BY_TANH : GELU_BY_ERF;
  first->fixed_scale > 0 ? gelu_rows_avx512<R, true>(x, first, by) : gelu_rows_avx512<R, false>(x, first, by);
}
