// Heads turned by the position of their token. As rows.h: each instruction set's file compiles its own copy,
// every copy gives the same bits.
#pragma once

#include "kernels.h"

enum { SQUARES = 16 }; // what is added side by side: one sum alone would wait for itself

// y = x / sqrt(mean of x * x + eps) * gain
static inline void norm_head(const float *__restrict x, const float *__restrict gain, int64_t size, float eps,
                             float *__restrict y) {
  float parts[SQUARES] = {0}, sum = 0;
  const int64_t whole = size / SQUARES * SQUARES;
  for (int64_t i = 0; i < whole; i += SQUARES)
    for (int j = 0; j < SQUARES; j++)
      parts[j] += x[i + j] * x[i + j];
  for (int64_t i = whole; i < size; i++)
    parts[i - whole] += x[i] * x[i];
  for (int j = 0; j < SQUARES; j++)
    sum += parts[j];
  const float scale = 1.0f / __builtin_sqrtf(sum / (float)size + eps);
  for (int64_t i = 0; i < size; i++)
    y[i] = x[i] * scale * gain[i];
}

// The first r numbers of one head. cos and sin may differ between the halves.
static inline void turn_halves(const float *__restrict x, const float *__restrict cos,
                               const float *__restrict sin, int64_t r, float *__restrict y) {
  const int64_t half = r / 2;
  for (int64_t i = 0; i < half; i++) {
    const float one = x[i], two = x[i + half];
    y[i] = one * cos[i] + -two * sin[i];
    y[i + half] = two * cos[i + half] + one * sin[i + half];
  }
}

static inline void turn_pairs(const float *__restrict x, const float *__restrict cos,
                              const float *__restrict sin, int64_t r, float *__restrict y) {
  for (int64_t i = 0; i < r; i += 2) {
    y[i] = x[i] * cos[i] + -x[i + 1] * sin[i];
    y[i + 1] = x[i + 1] * cos[i + 1] + x[i] * sin[i + 1];
  }
}

// One row: the heads that are turned, and the others as they are.
static inline void rotary_row(const Heads *row) {
  const Heads h = *row;
  for (int64_t head = 0; head < h.turned; head++) {
    const float *x = h.x + head * h.size;
    float *y = h.y + head * h.size;
    if (h.gain) {
      norm_head(x, h.gain + head * h.size, h.size, h.eps, h.work);
      x = h.work;
    }
    (h.pairs ? turn_pairs : turn_halves)(x, h.cos, h.sin, h.r, y);
    memcpy(y + h.r, x + h.r, (h.size - h.r) * sizeof(float));
  }
  const int64_t done = h.turned * h.size;
  memcpy(h.y + done, h.x + done, (h.columns - done) * sizeof(float));
}

#define ROTARY_KERNEL(name)                                                                                  \
  extern "C" void rotary_##name(const Heads *row) { rotary_row(row); }
