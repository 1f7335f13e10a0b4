// What a float kernel is. Plain C, as kernels.h. Rows of x advance by 4 bytes at a time: one float32, or a
// pair of bfloat16. Packed weights advance by as many for each of the 64 columns, or by one byte, where they
// are int8.
#pragma once

#include "kernels.h"
#include "quantize.h"

enum { UNIT = 4, LINE_BYTES = PANEL * UNIT };

// `rows` rows of x times one packed panel of up to 64 output channels.
typedef enum { NONE, GELU, GELU_TANH } End; // GELU by erf, or by tanh

typedef struct {
  const void *x; // float32, or pairs of bfloat16 (the last one padded with 0), as the weights are
  int64_t x_stride, rows, steps; // in units of 4 bytes: from row to row; of each row
  const void *panel;             // float32 [steps, 64], bfloat16 [steps, 64, 2], or int8 [steps, 64]
  int64_t columns, out_stride;   // 1..64; elements between rows of y
  const float *scale;            // [columns], of int8 weights; or null
  const float *bias;             // [columns], or null
  End end;                       // what is applied to the sums
  int narrow;                    // y is bfloat16
  void *y;                       // [rows, columns]
} FloatStrip;

// `rows` rows of k elements as the weights want them.
typedef struct {
  const void *x; // rows of k, contiguous
  int64_t rows, k, padded;
  int from_bf16, to_bf16; // else float32
  void *out;              // rows of `padded` >= k elements: zeros after k
} Convert;

typedef struct {
  const char *name, *isa; // isa: the entry of kernels.inc that it goes with
  int (*runs_here)(void);
  void (*f32)(const FloatStrip *);
  void (*bf16)(const FloatStrip *);
  void (*w8)(const FloatStrip *); // x float32, weights int8
  void (*convert)(const Convert *);
} FloatKernels;

// To the nearest bfloat16, ties to even; a NaN stays one.
static inline uint16_t narrowed(float f) {
  const uint32_t bits = (uint32_t)bits_of(f), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40) : rounded);
}

static inline float widened(uint16_t b) { return float_of((int32_t)((uint32_t)b << 16)); }

static inline void convert_rows(const Convert *c) {
  const int64_t k = c->k, padded = c->padded;
  for (int64_t row = 0; row < c->rows; row++) {
    const float *__restrict wide = (const float *)c->x + row * k;
    const uint16_t *__restrict half = (const uint16_t *)c->x + row * k;
    if (c->to_bf16) {
      uint16_t *__restrict to = (uint16_t *)c->out + row * padded;
      if (c->from_bf16)
        memcpy(to, half, k * sizeof(*to));
      else
        for (int64_t i = 0; i < k; i++)
          to[i] = narrowed(wide[i]);
      memset(to + k, 0, (padded - k) * sizeof(*to));
    } else {
      float *__restrict to = (float *)c->out + row * padded;
      for (int64_t i = 0; i < k; i++)
        to[i] = c->from_bf16 ? widened(half[i]) : wide[i];
    }
  }
}

// GELU(x) = x * (1/2 + t * P(v)), t = x within +-5, v = 2 * t * t / 25 - 1. P is a least squares fit of
// (Phi(x) - 1/2) / x at 4,000 Chebyshev nodes of v, reweighted towards the smallest largest error (Lawson),
// which is 1.6e-7 in Phi; beyond +-5, Phi is 0 or 1.
static inline float gelu_precise(float x) {
  const float p[] = {0x1.218356p-3f,  -0x1.1feefep-4f,  0x1.a60e5ep-5f,  -0x1.4b4e4ap-5f, 0x1.0192fep-5f,
                     -0x1.7d3bd8p-6f, 0x1.0cbbe2p-6f,   -0x1.6dd50cp-7f, 0x1.a41d12p-8f,  -0x1.6001eep-9f,
                     0x1.c3a4a6p-10f, -0x1.a6e79cp-10f, 0x1.3f220cp-11f};
  const float t = x > 5 ? 5 : x < -5 ? -5 : x, v = t * t * 0.08f - 1;
  float sum = p[12];
  for (int i = 11; i >= 0; i--)
    sum = sum * v + p[i];
  const float inside = 0.5f + t * sum;
  return x * (x >= 5 ? 1 : x <= -5 ? 0 : inside);
}

// 2^z for z from -126 to 126: z = n + f, and the polynomial of degree 6 with the least relative error, 2e-9,
// for |f| <= 1/2, by the same fit.
static inline float exp2_bounded(float z) {
  const float shifted = z + 12582912.0f; // the last bit of floats near it is worth one
  const float f = z - (shifted - 12582912.0f);
  float y = 0x1.41fbbcp-13f;
  y = y * f + 0x1.5f3e52p-10f;
  y = y * f + 0x1.3b2d4cp-7f;
  y = y * f + 0x1.c6aee8p-5f;
  y = y * f + 0x1.ebfbdcp-3f;
  y = y * f + 0x1.62e430p-1f;
  y = y * f + 1;
  int32_t bits, exponent;
  memcpy(&bits, &y, 4), memcpy(&exponent, &shifted, 4);
  bits += (int32_t)((uint32_t)exponent << 23);
  memcpy(&y, &bits, 4);
  return y;
}

// GELU(x) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh(u)) / 2 is that share.
static inline float gelu_tanh_precise(float x) {
  const float two_log2e = 2.88539008f * 0.79788456f;
  const float z = x * (two_log2e + two_log2e * 0.044715f * x * x);
  const float bounded = z < -126 ? -126 : z > 126 ? 126 : z;
  const float share = 1 / (1 + exp2_bounded(-bounded));
  return x * (z <= -126 ? 0 : share);
}

// Writes `rows` rows of y, from `row` on, from their sums: scale, bias, activation, rounding.
static inline void finish(const FloatStrip *s, int64_t row, int64_t rows, float (*sums)[PANEL]) {
  const int64_t columns = s->columns;
  float scale[PANEL] = {0}, bias[PANEL] = {0};
  if (s->scale)
    memcpy(scale, s->scale, columns * sizeof(float));
  if (s->bias)
    memcpy(bias, s->bias, columns * sizeof(float));
  for (int64_t i = 0; i < rows; i++) {
    float *y = sums[i];
    const int64_t at = (row + i) * s->out_stride;
    if (s->scale)
      for (int n = 0; n < PANEL; n++)
        y[n] *= scale[n];
    for (int n = 0; n < PANEL; n++)
      y[n] += bias[n];
    if (s->end == GELU)
      for (int n = 0; n < PANEL; n++)
        y[n] = gelu_precise(y[n]);
    if (s->end == GELU_TANH)
      for (int n = 0; n < PANEL; n++)
        y[n] = gelu_tanh_precise(y[n]);
    if (!s->narrow) {
      memcpy((float *)s->y + at, y, columns * sizeof(float));
      continue;
    }
    uint16_t half[PANEL];
    for (int n = 0; n < PANEL; n++)
      half[n] = narrowed(y[n]);
    memcpy((uint16_t *)s->y + at, half, columns * sizeof(uint16_t));
  }
}
