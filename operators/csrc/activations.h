// GELU and SiLU, of rows of floats or of one half of them as a gate for the other; as rows.h, of which it is
// a part: every copy gives the same bits.
#pragma once

#include "turn.h"

static inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// x * Phi(x), the GELU by erf, with an absolute error below 4.3e-5, and exactly x or 0 beyond 4.4; or that by
// tanh, 1/2 + tanh(sqrt(2/pi) (x + 0.044715 x^3)) / 2 in place of Phi, with the same error, beyond 4.3.
// Phi(x) - 1/2 = x P(x * x), P by weighted least squares on Chebyshev nodes, iterated (Lawson) towards the
// least error of x * Phi(x). Bounds by integers, on which compilers vectorize them: positive floats have the
// order of their bits.
enum { GELU_TERMS = 9 };
typedef struct {
  int32_t bound; // of x * x
  float terms[GELU_TERMS];
} Gelu;
static const Gelu GELU_BY_ERF = {0x419ae148,
                                 {0x1.3a4080p-35f, -0x1.02275ap-28f, 0x1.760774p-23f, -0x1.3d2f00p-18f,
                                  0x1.619ddep-14f, -0x1.1495a0p-10f, 0x1.3bfe22p-7f, -0x1.0ea6a8p-4f,
                                  0x1.985508p-2f}};
static const Gelu GELU_BY_TANH = {0x4193eb85,
                                  {0x1.b22f5cp-35f, -0x1.521b9ap-28f, 0x1.cfc63ap-23f, -0x1.742496p-18f,
                                   0x1.893ffap-14f, -0x1.2559d2p-10f, 0x1.439868p-7f, -0x1.1003a8p-4f,
                                   0x1.985636p-2f}};

static inline float gelu(float x, const Gelu *by) {
  const int32_t square = bits_of(x * x);
  const float u = float_of(square < by->bound ? square : by->bound);
  float p = by->terms[0];
#pragma GCC unroll 16
  for (int i = 1; i < GELU_TERMS; i++)
    p = fused(p, u, by->terms[i]);
  return x * float_of(clamp(bits_of(fused(p, x, 0.5f)), 0, 0x3f800000)); // within 0 and 1
}

// 2^x for -126 <= x <= 126: x = n + f, and the polynomial is the one of degree 5 with the least relative
// error, 8e-8, for |f| <= 1/2.
enum { EXP2_TERMS = 6 };
static const float EXP2[EXP2_TERMS] = {0.00132764719f, 0.00967554133f, 0.0555071327f,
                                       0.240221197f,   0.693146967f,   1.00000007f};
static const float ROUND = 12582912.0f; // 1.5 * 2^23: the last bit of floats near it is worth one

static inline float exp2_of(float x) {
  const float n = x + ROUND, f = x - (n - ROUND);
  float y = EXP2[0];
#pragma GCC unroll 16
  for (int i = 1; i < EXP2_TERMS; i++)
    y = fused(y, f, EXP2[i]);
  return float_of((int32_t)((uint32_t)bits_of(y) + ((uint32_t)bits_of(n) << 23)));
}

// x / (1 + exp(-x)), by x times a share of it: with an error below 2e-7 max(1, |x|).
// Shares below 2^-100 are none, so that no x however low gives more than nothing. Bounds by integers, as
// above.
static const float LOG2_E = 0x1.715476p+0f, MOST_POWER = 126.0f;
static const int32_t LEAST_SHARE = 0x0d800000;

static inline float silu(float x) {
  const int32_t power = bits_of(x * -LOG2_E), size = power & 0x7fffffff, most = bits_of(MOST_POWER);
  const float bounded = float_of((size < most ? size : most) | (power & INT32_MIN));
  const int32_t share = bits_of(1.0f / (1.0f + exp2_of(bounded)));
  return x * float_of(share < LEAST_SHARE ? 0 : share);
}

static inline void gelu_row(float *x, const Row *r, int by_tanh) { // r is of x
  const Gelu by = by_tanh ? GELU_BY_TANH : GELU_BY_ERF;
  const int64_t k = r->k;
  for (int64_t i = 0; i < k; i++)
    x[i] = gelu(x[i], &by);
  quantize_row(r);
}

// y may be x: each value is made of those of its own place.
static inline void gate_row(const Gate *g) {
  const int64_t n = g->n;
  const float *x = gated(g), *times = gating(g);
  float *y = g->y;
  if (g->activation == GATE_SILU) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++)
      y[i] = silu(x[i]) * times[i];
    return;
  }
  const Gelu by = g->activation == GATE_GELU_TANH ? GELU_BY_TANH : GELU_BY_ERF;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++)
    y[i] = gelu(x[i], &by) * times[i];
}
