// Arithmetic on rows of floats. Each instruction set's file compiles its own copy of this; it is written so
// that compilers vectorize it and so that every copy gives the same bits: multiply-adds are fused where it
// says so, and sums are taken in SUMS interleaved parts, which are then added in one fixed order.
#pragma once

#include "quantize.h"

enum { SUMS = 64 };

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

static inline void gelu_row(float *x, const Row *r, int by_tanh) { // r is of x
  const Gelu by = by_tanh ? GELU_BY_TANH : GELU_BY_ERF;
  const int64_t k = r->k;
  for (int64_t i = 0; i < k; i++)
    x[i] = gelu(x[i], &by);
  quantize_row(r);
}

static inline float sum_of(float *parts) {
  for (int half = SUMS / 2; half; half /= 2)
    for (int i = 0; i < half; i++)
      parts[i] += parts[i + half];
  return parts[0];
}

// y = (x + residual - mean) / sqrt(variance + eps) * gamma + beta, y may be x; and smoothed. Where rms, 0 is
// taken for the mean, which leaves the mean of the squares; a constant here, so that there is a copy for
// each.
static inline __attribute__((always_inline)) void norm_row(const Norm *r, int rms) {
  const float *__restrict residual = r->residual, *__restrict gamma = r->gamma, *__restrict beta = r->beta;
  const int64_t n = r->n, whole = n / SUMS * SUMS;
  float *y = r->y, *total = r->total;
  float parts[SUMS] = {0}, mean = 0;
  if (residual)
    for (int64_t i = 0; i < n; i++)
      total[i] = r->x[i] + residual[i];
  else if (total != r->x)
    memcpy(total, r->x, n * sizeof(float));
  if (!rms) {
    for (int64_t i = 0; i < whole; i += SUMS)
      for (int j = 0; j < SUMS; j++)
        parts[j] += total[i + j];
    for (int64_t i = whole; i < n; i++)
      parts[i - whole] += total[i];
    mean = sum_of(parts) / (float)n;
    memset(parts, 0, sizeof(parts));
  }
  for (int64_t i = 0; i < whole; i += SUMS)
    for (int j = 0; j < SUMS; j++) {
      const float d = total[i + j] - mean;
      parts[j] = fused(d, d, parts[j]);
    }
  for (int64_t i = whole; i < n; i++) {
    const float d = total[i] - mean;
    parts[i - whole] = fused(d, d, parts[i - whole]);
  }
  const float inverse = 1.0f / __builtin_sqrtf(sum_of(parts) / (float)n + r->eps);
  for (int64_t i = 0; i < n; i++)
    y[i] = fused((total[i] - mean) * inverse, gamma[i], beta[i]);
  if (r->smoothed)
    for (int64_t i = 0; i < n; i++)
      r->smoothed[i] = fused(y[i], r->smooth_scale[i], r->smooth_shift[i]);
}

// What a file for one instruction set defines besides gemm_NAME.
#define ROW_KERNELS(name)                                                                                    \
  extern "C" void quantize_##name(const Row *first, int64_t count) {                                         \
    for (int64_t i = 0; i < count; i++) {                                                                    \
      const Row r = row_at(first, i);                                                                        \
      quantize_row(&r);                                                                                      \
    }                                                                                                        \
  }                                                                                                          \
  extern "C" void gelu_##name(float *x, const Row *first, int64_t count, int by_tanh) {                      \
    for (int64_t i = 0; i < count; i++) {                                                                    \
      const Row r = row_at(first, i);                                                                        \
      gelu_row(x + i * r.k, &r, by_tanh);                                                                    \
    }                                                                                                        \
  }                                                                                                          \
  extern "C" void norm_##name(const Norm *first, const Row *bytes, int64_t count) {                          \
    for (int64_t i = 0; i < count; i++) {                                                                    \
      const Norm n = norm_at(first, i);                                                                      \
      if (n.rms)                                                                                             \
        norm_row(&n, 1);                                                                                     \
      else                                                                                                   \
        norm_row(&n, 0);                                                                                     \
      if (!bytes)                                                                                            \
        continue;                                                                                            \
      const Row r = row_at(bytes, i);                                                                        \
      quantize_row(&r);                                                                                      \
    }                                                                                                        \
  }
