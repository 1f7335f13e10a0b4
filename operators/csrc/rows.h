// Arithmetic on rows of floats. Each instruction set's file compiles its own copy of this; it is written so
// that compilers vectorize it and so that every copy gives the same bits: multiply-adds are fused where it
// says so, and sums are taken in SUMS interleaved parts, which are then added in one fixed order.
#pragma once

#include "activations.h"
#include "rotary.h"

enum { SUMS = 64 };

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
  extern "C" void gate_##name(const Gate *first, const Row *bytes, int64_t count) {                          \
    for (int64_t i = 0; i < count; i++) {                                                                    \
      const Gate g = gate_at(first, i);                                                                      \
      gate_row(&g);                                                                                          \
      if (!bytes)                                                                                            \
        continue;                                                                                            \
      const Row r = row_at(bytes, i);                                                                        \
      quantize_row(&r);                                                                                      \
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
  }                                                                                                          \
  ROTARY_KERNEL(name)
