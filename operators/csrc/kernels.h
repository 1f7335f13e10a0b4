// What a kernel is. Plain C: files for one instruction set include only this, rows.h, quantize.h and
// <immintrin.h>. Functions here are static, so that no copy compiled for one instruction set can serve
// another file.
#pragma once

#include <stdint.h>
#include <string.h>

enum { PANEL = 64, GROUP = 4, MAX_K = 66311, MAX_ROTATION = 128 }; // as in operators/validate.py

// `rows` rows of q times one packed panel of up to 64 output channels. One of acc and y is written.
typedef struct {
  const uint8_t *q; // [rows, k], rows q_stride bytes apart
  int64_t q_stride, rows, k;
  const int32_t *zero_point; // [rows]
  const int8_t *panel;       // [ceil(k/4), 64, 4], zero padded
  const int8_t *next;        // the panel that comes after it, worth bringing near; or null
  const int32_t *weight_sum; // [columns]
  int64_t columns;           // 1..64
  int64_t out_stride;        // elements between rows of acc or y
  int32_t *acc;              // [rows, columns], or null
  float *y;                  // [rows, columns], or null; the fields below are for y
  const float *scale;        // [rows]
  const float *weight_scale; // [columns]
  const float *bias;         // [columns], or null
  // [rows, columns], out_stride apart: what is written, or read, next at these places and is in no near cache
  // yet; or null
  const float *near;
} Strip;

// One row of activations to bytes. Of several rows it is the first: all of their parts lie one after another.
typedef struct {
  const float *x;
  int64_t k;
  int symmetric;
  float
      fixed_scale; // 0: from the row's own range; else every row has this scale and the zero point fixed_zero
  int32_t fixed_zero;
  int32_t rotation; // 0, or the values of a block: what becomes bytes is the row, turned by blocks (turn.h)
  uint8_t *q;
  float *scale;
  int32_t *zero_point;
} Row;

// One row of 2 n values, the activation of one half times the other. As above for several rows.
typedef struct {
  const float *x;
  int64_t n;
  int activation; // one of the three below
  int second;     // whether it is of the second half
  float *y;       // [n]; may be x, also of several rows
} Gate;
enum { GATE_GELU, GATE_GELU_TANH, GATE_SILU };

// Layer normalization of one row of n values, x plus the residual if there is one; where rms, without
// subtracting their mean. As above for several rows.
typedef struct {
  const float *x, *residual, *gamma, *beta;
  float eps;
  int rms;
  int64_t n;
  float *total;                             // x plus the residual goes there; may be x, or y
  float *y;                                 // may be x
  const float *smooth_scale, *smooth_shift; // [n], for smoothed
  float *smoothed;                          // y * smooth_scale + smooth_shift, made where it is not null
} Norm;

// One row of heads of `size` values side by side: the first `turned` are turned by the row's angles
// (rotary.h).
typedef struct {
  const float *x;                   // [columns]
  int64_t columns, size, turned, r; // r: how many values of a head are turned, the first
  int pairs;                        // whether neighbours are turned, else the halves
  const float *gain;                // [turned * size], heads are normalized before; or null
  float eps;
  const float *cos, *sin; // [r]
  float *work;            // [size], where there is a gain
  float *y;               // [columns], not x
} Heads;

typedef struct {
  const char *isa;
  int (*runs_here)(void);
  void (*gemm)(const Strip *);
  // Of `count` rows; the first one is given.
  void (*quantize)(const Row *, int64_t count);
  // GELU of x, which may be left in x; its rows, which are of x, to bytes
  void (*gelu)(float *x, const Row *, int64_t count, int by_tanh);
  void (*gate)(const Gate *, const Row *, int64_t count); // then the rows, which are of y, to bytes; or null
  void (*norm)(const Norm *, const Row *,
               int64_t count); // then the rows, which are of y or smoothed, to bytes; or null
  void (*rotary)(const Heads *);
} Kernels;

static inline Row row_at(const Row *first, int64_t i) {
  Row r = *first;
  r.x += i * r.k, r.q += i * r.k, r.scale += i, r.zero_point += i;
  return r;
}

static inline Gate gate_at(const Gate *first, int64_t i) {
  Gate g = *first;
  g.x += 2 * i * g.n, g.y += i * g.n;
  return g;
}

// The half that goes through the activation, and the one that it is multiplied by.
static inline const float *gated(const Gate *g) { return g->second ? g->x + g->n : g->x; }
static inline const float *gating(const Gate *g) { return g->second ? g->x : g->x + g->n; }

static inline Norm norm_at(const Norm *first, int64_t i) {
  Norm n = *first;
  n.x += i * n.n, n.total += i * n.n, n.y += i * n.n;
  n.residual = n.residual ? n.residual + i * n.n : n.residual;
  n.smoothed = n.smoothed ? n.smoothed + i * n.n : n.smoothed;
  return n;
}

// The four bytes of group g of a row of k bytes; 0 beyond the end, which is never read.
static inline uint32_t load_group(const uint8_t *row, int64_t k, int64_t g) {
  uint32_t word = 0;
  int64_t left = k - g * GROUP;
  if (left >= GROUP)
    memcpy(&word, row + g * GROUP, GROUP);
  else
    for (int64_t i = 0; i < left; i++)
      word |= (uint32_t)row[g * GROUP + i] << (8 * i);
  return word;
}

// Writes one row of a strip from the plain sums of q * w. Unsigned arithmetic: it may wrap on the way.
static inline void store_row(const Strip *s, int64_t row, const int32_t *sums) {
  const uint32_t zero = (uint32_t)s->zero_point[row];
  int32_t acc[PANEL];
  for (int64_t n = 0; n < s->columns; n++)
    acc[n] = (int32_t)((uint32_t)sums[n] - zero * (uint32_t)s->weight_sum[n]);
  if (s->acc)
    memcpy(s->acc + row * s->out_stride, acc, s->columns * sizeof(int32_t));
  if (!s->y)
    return;
  float *y = s->y + row * s->out_stride;
  for (int64_t n = 0; n < s->columns; n++)
    y[n] = (float)acc[n] * (s->scale[row] * s->weight_scale[n]);
  if (s->bias)
    for (int64_t n = 0; n < s->columns; n++)
      y[n] += s->bias[n];
}
