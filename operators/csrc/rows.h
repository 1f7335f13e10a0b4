// Arithmetic on rows of floats. Each instruction set's file compiles its own copy of this; it is written so
// that compilers vectorize it and so that every copy gives the same bits: multiply-adds are fused where it
// says so, and sums are taken in SUMS interleaved parts, which are then added in one fixed order.
#pragma once

#include "quantize.h"

enum { SUMS = 64 };

static inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// x * Phi(x), the exact (erf) GELU, with an absolute error below 3e-5: Phi(x) - 1/2 = x P(x * x) for |x|
// < 4.5, P by weighted least squares on Chebyshev nodes, iterated (Lawson) towards the smallest error of x *
// Phi(x).
static inline float gelu(float x) {
  float t = x < -4.5f ? -4.5f : x;
  t = t > 4.5f ? 4.5f : t;
  const float u = t * t;
  float p = -0x1.8a157cp-40f;
  p = fused(p, u, 0x1.753db4p-33f);
  p = fused(p, u, -0x1.3be510p-27f);
  p = fused(p, u, 0x1.3db594p-22f);
  p = fused(p, u, -0x1.ab2a42p-18f);
  p = fused(p, u, 0x1.9a8092p-14f);
  p = fused(p, u, -0x1.264daep-10f);
  p = fused(p, u, 0x1.4236bcp-7f);
  p = fused(p, u, -0x1.0fb772p-4f);
  p = fused(p, u, 0x1.9874fep-2f);
  float phi = fused(p, t, 0.5f);
  phi = phi < 0.0f ? 0.0f : phi;
  phi = phi > 1.0f ? 1.0f : phi;
  return x * phi;
}

// GELU in place of `columns` elements of each row, and what that does to the rows' ranges.
static inline void gelu_rows(float *y, int64_t stride, int64_t rows, int64_t columns, Range *ranges) {
  for (int64_t i = 0; i < rows; i++) {
    float *row = y + i * stride;
    for (int64_t n = 0; n < columns; n++)
      row[n] = gelu(row[n]);
    widen(ranges + i, row, columns);
  }
}

static inline float sum_of(const float *parts) {
  float sums[SUMS];
  memcpy(sums, parts, sizeof(sums));
  for (int half = SUMS / 2; half; half /= 2)
    for (int i = 0; i < half; i++)
      sums[i] += sums[i + half];
  return sums[0];
}

// y = (x + residual - mean) / sqrt(variance + eps) * gamma + beta, y may be x. `range` becomes that of y.
static inline void norm_row(const Norm *r, Range *range) {
  const float *__restrict residual = r->residual, *__restrict gamma = r->gamma, *__restrict beta = r->beta;
  const int64_t n = r->n, whole = n / SUMS * SUMS;
  float *y = r->y;
  float parts[SUMS] = {0};
  if (residual)
    for (int64_t i = 0; i < n; i++)
      y[i] = r->x[i] + residual[i];
  else if (y != r->x)
    memcpy(y, r->x, n * sizeof(float));
  for (int64_t i = 0; i < whole; i += SUMS)
    for (int j = 0; j < SUMS; j++)
      parts[j] += y[i + j];
  for (int64_t i = whole; i < n; i++)
    parts[i - whole] += y[i];
  const float mean = sum_of(parts) / (float)n;
  memset(parts, 0, sizeof(parts));
  for (int64_t i = 0; i < whole; i += SUMS)
    for (int j = 0; j < SUMS; j++) {
      const float d = y[i + j] - mean;
      parts[j] = fused(d, d, parts[j]);
    }
  for (int64_t i = whole; i < n; i++) {
    const float d = y[i] - mean;
    parts[i - whole] = fused(d, d, parts[i - whole]);
  }
  const float inverse = 1.0f / __builtin_sqrtf(sum_of(parts) / (float)n + r->eps);
  for (int64_t i = 0; i < n; i++)
    y[i] = fused((y[i] - mean) * inverse, gamma[i], beta[i]);
  widen(range, y, n);
}

// To bfloat16, ties to even; NaN stays NaN.
static inline void narrow_row(const float *__restrict x, int64_t n, uint16_t *__restrict y) {
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = (uint32_t)bits_of(x[i]);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t nan = bits >> 16 | 0x40;
    y[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
  }
}

// What a file for one instruction set defines besides gemm_NAME.
#define ROW_KERNELS(name)                                                                                    \
  extern "C" void quantize_##name(const Row *r) { quantize_row(r); }                                         \
  extern "C" void gelu_##name(float *y, int64_t stride, int64_t rows, int64_t columns, Range *ranges) {      \
    gelu_rows(y, stride, rows, columns, ranges);                                                             \
  }                                                                                                          \
  extern "C" void norm_##name(const Norm *r, Range *range) { norm_row(r, range); }                           \
  extern "C" void narrow_##name(const float *x, int64_t n, uint16_t *y) { narrow_row(x, n, y); }
