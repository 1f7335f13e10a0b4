// activations.h once more, in AVX-512, and the rows' bytes: the same bits.
#pragma once

#include "bytes_avx512.h"

enum { ABREAST = 8 }; // registers of values that are computed side by side

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

// SiLU of N registers, likewise.
template <int N>
static inline void silu_avx512(__m512 (&y)[N], const __m512 (&x)[N]) {
  // of NaN anything: x is NaN, and the product
  const __m512 most = _mm512_set1_ps(MOST_POWER), least = _mm512_set1_ps(-MOST_POWER),
               one = _mm512_set1_ps(1);
  const __m512 round = _mm512_set1_ps(ROUND);
  __m512 f[N];
  __m512i n[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; j++) {
    const __m512 power = _mm512_mul_ps(x[j], _mm512_set1_ps(-LOG2_E));
    const __m512 within = _mm512_max_ps(_mm512_min_ps(power, most), least),
                 whole = _mm512_add_ps(within, round);
    f[j] = _mm512_sub_ps(within, _mm512_sub_ps(whole, round));
    n[j] = _mm512_slli_epi32(_mm512_castps_si512(whole), 23);
    y[j] = _mm512_set1_ps(EXP2[0]);
  }
#pragma GCC unroll 16
  for (int i = 1; i < EXP2_TERMS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < N; j++)
      y[j] = _mm512_fmadd_ps(y[j], f[j], _mm512_set1_ps(EXP2[i]));
#pragma GCC unroll 8
  for (int j = 0; j < N; j++) {
    const __m512 power = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(y[j]), n[j]));
    const __m512 share = _mm512_div_ps(one, _mm512_add_ps(one, power));
    const __mmask16 some =
        _mm512_cmpge_epi32_mask(_mm512_castps_si512(share), _mm512_set1_epi32(LEAST_SHARE));
    y[j] = _mm512_mul_ps(x[j], _mm512_maskz_mov_ps(some, share));
  }
}

struct GeluOf {
  const Gelu &by;
  template <int N>
  void operator()(__m512 (&y)[N], const __m512 (&x)[N]) const {
    gelu_avx512<N>(y, x, by);
  }
};

struct SiluOf {
  template <int N>
  void operator()(__m512 (&y)[N], const __m512 (&x)[N]) const {
    silu_avx512<N>(y, x);
  }
};

// Rows of n values, `stride` apart, to their activation, times what lies at `times` unless that is null. y
// may be x.
typedef struct {
  const float *x, *times;
  int64_t n, stride;
  float *y;
} Acted;

// What becomes of the values: floats, floats whose range is seen, or bytes at once.
enum Made { TO_FLOATS, TO_RANGED, TO_BYTES };

// N registers at `i` of a row, the last one's lanes `m`.
template <int N, Made MADE, bool TIMES, class Of>
static inline void act_at(const Acted &a, int64_t i, uint8_t *q, __mmask16 m, Steps s, Ranges *ranges,
                          int symmetric, const Of &of) {
  __m512 in[N], y[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; j++)
    in[j] = _mm512_maskz_loadu_ps(j < N - 1 ? 0xffff : m, a.x + i + j * WIDTH);
  of(y, in);
#pragma GCC unroll 8
  for (int j = 0; j < N; j++) {
    const __mmask16 lanes = j < N - 1 ? 0xffff : m;
    if (TIMES)
      y[j] = _mm512_mul_ps(y[j], _mm512_maskz_loadu_ps(lanes, a.times + i + j * WIDTH));
    if (MADE != TO_FLOATS)
      see_avx512(ranges, lanes, y[j], symmetric);
    if (MADE == TO_BYTES)
      store_bytes<true>(q + i + j * WIDTH, lanes, s, y[j]);
    else
      _mm512_mask_storeu_ps(a.y + i + j * WIDTH, lanes, y[j]);
  }
}

template <int R, Made MADE, bool TIMES, class Of>
static inline void act_rows(Acted a, const Row *first, const Of &of) {
  const int symmetric = MADE == TO_BYTES || (MADE == TO_RANGED && first->symmetric);
  const Steps s = MADE == TO_BYTES ? fixed_steps(first) : Steps();
  Ranges ranges[R];
  for (int row = 0; row < R; row++) {
    uint8_t *q = MADE == TO_BYTES ? first->q + row * a.n : nullptr;
    Ranges seen = {};
    int64_t i = 0;
    for (; i + ABREAST * WIDTH <= a.n; i += ABREAST * WIDTH)
      act_at<ABREAST, MADE, TIMES>(a, i, q, 0xffff, s, &seen, symmetric, of);
    for (; i < a.n; i += WIDTH)
      act_at<1, MADE, TIMES>(a, i, q, lanes_at(i, a.n), s, &seen, symmetric, of);
    ranges[row] = seen;
    a.x += a.stride, a.y += a.n, a.times = TIMES ? a.times + a.stride : nullptr;
  }
  if (MADE != TO_FLOATS)
    finish_rows<R>(first, ranges, MADE == TO_BYTES);
}

// first: null where nothing is made but floats; so it is where they are turned before they become bytes.
template <int R, bool TIMES, class Of>
static inline void act_rows(const Acted &a, const Row *first, const Of &of) {
  if (!first || first->rotation)
    act_rows<R, TO_FLOATS, TIMES>(a, first, of);
  else if (first->fixed_scale > 0)
    act_rows<R, TO_BYTES, TIMES>(a, first, of);
  else
    act_rows<R, TO_RANGED, TIMES>(a, first, of);
}

template <int R>
static inline void gelu_rows_avx512(float *x, const Row *first, int by_tanh) {
  const GeluOf gelu = {by_tanh ? GELU_BY_TANH : GELU_BY_ERF};
  act_rows<R, false>({x, nullptr, first->k, first->k, x}, first, gelu);
}

template <int R>
static inline void gate_rows_avx512(const Gate *g, const Row *first) {
  const Acted a = {gated(g), gating(g), g->n, 2 * g->n, g->y};
  if (g->activation == GATE_SILU)
    act_rows<R, true>(a, first, SiluOf());
  else
    act_rows<R, true>(a, first, GeluOf{g->activation == GATE_GELU_TANH ? GELU_BY_TANH : GELU_BY_ERF});
}
