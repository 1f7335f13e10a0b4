// Attention in float for any instruction set: a file defines LANES (floats in a register) and ROWS (of a tile
// of ROWS by 2 registers of sums), and includes this. Written with the compiler's vector types; where the
// file's flags allow contraction, a * b + c is one fused instruction. It also includes what has its look_up.
//
// Keys: tiles of 2 LANES, each [columns, keys]. Values: [keys, columns rounded up to 2 LANES]. Padding is
// zero.
#pragma once

#include "attention.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { TILE = 2 * LANES };

typedef float Floats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

namespace { // other files have Blocks of their own
typedef struct {
  const Head *head;
  int64_t stride, columns; // padded keys and columns
  const float *k, *v;
  float *q, *p; // [ROWS, d] queries times scale, [ROWS, stride] scores, then probabilities
} Block;
} // namespace

static inline float element(const void *base, int bf16, int64_t at) {
  if (!bf16)
    return ((const float *)base)[at];
  const uint32_t bits = (uint32_t)((const uint16_t *)base)[at] << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

static inline AttentionBytes float_bytes(int64_t count, int64_t d) {
  const int64_t keys = round_up(count, TILE);
  return AttentionBytes{round_up(keys * (d + round_up(d, TILE)) * 4, 64),
                        round_up(ROWS * (d + keys) * 4, 64)};
}

static void float_pack(const Head *h) {
  const int64_t keys = round_up(h->count, TILE), columns = round_up(h->d, TILE);
  float *k = (float *)h->packed, *v = k + keys * h->d;
  memset(k, 0, keys * (h->d + (h->v ? columns : 0)) * sizeof(float));
  for (int64_t key = 0; key < h->count; key++) {
    const int64_t from = key_row(h, key) * h->stride;
    float *to = k + key / TILE * TILE * h->d + key % TILE;
    for (int64_t c = 0; c < h->d; c++)
      to[c * TILE] = element(h->k, h->bf16, from + c);
    for (int64_t c = 0; h->v && c < h->d; c++)
      v[key * columns + c] = element(h->v, h->bf16, from + c);
  }
}

// 2^x for x <= 0: x = n + f, and the polynomial is the one of degree 5 with the least relative error, 8e-8,
// for |f| <= 1/2. Below -126 it is 2^-126, which is nothing beside the 1 of the row's largest score.
static inline Floats exp2_of(Floats x) {
  const Floats lowest = (Floats){} - 126.0f;
  const Floats bounded = x < lowest ? lowest : x;
  const Floats n = bounded + 12582912.0f; // the last bit of floats near it is worth one
  const Floats f = bounded - (n - 12582912.0f);
  Floats y = f * 0.00132764719f + 0.00967554133f;
  y = y * f + 0.0555071327f;
  y = y * f + 0.240221197f;
  y = y * f + 0.693146967f;
  y = y * f + 1.00000007f;
  y = (Floats)((Ints)y + ((Ints)n << 23));
  return x == x ? y : x; // the shift could have made a number of NaN
}

// y[i, 0 .. 2 LANES) = sum over s of a[i, s] * b[s, 0 .. 2 LANES) for ROWS rows
static inline void multiply(const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t steps,
                            float *y, int64_t y_stride) {
  Floats c[ROWS][2];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    c[i][0] = c[i][1] = (Floats){};
  for (int64_t s = 0; s < steps; s++, a++, b += b_stride) {
    const Floats left = *(const Floats *)b, right = *(const Floats *)(b + LANES);
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      const Floats row = (Floats){} + a[i * a_stride];
      c[i][0] = row * left + c[i][0];
      c[i][1] = row * right + c[i][1];
    }
  }
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    *(Floats *)(y + i * y_stride) = c[i][0];
    *(Floats *)(y + i * y_stride + LANES) = c[i][1];
  }
}

// Scores, in units of log 2, to probabilities that are still to be divided by the sum which is returned;
// zeros from `count`, which is at least 1, up to `keys`.
static float exponentials(float *p, int64_t count, int64_t keys) {
  for (int64_t key = count; key < keys; key++)
    p[key] = -__builtin_inff();
  Floats most = *(Floats *)p;
  for (int64_t key = LANES; key < keys; key += LANES) {
    const Floats score = *(Floats *)(p + key);
    most = score > most ? score : most;
  }
  float shift = most[0];
  for (int i = 1; i < LANES; i++)
    shift = most[i] > shift ? most[i] : shift;
  if (shift == -__builtin_inff()) { // nothing may be looked at
    memset(p, 0, keys * sizeof(float));
    return 1;
  }
  Floats sums = (Floats){};
  for (int64_t key = 0; key < keys; key += LANES) {
    const Floats y = exp2_of(*(Floats *)(p + key) - shift);
    *(Floats *)(p + key) = y;
    sums += y;
  }
  for (int64_t key = count; key < keys; key++)
    p[key] = 0;
  float sum = 0;
  for (int i = 0; i < LANES; i++)
    sum += sums[i];
  return sum;
}

// ROWS rows of queries times scale; those beyond the last one repeat it.
static void load_queries(const Head *h, int64_t first, int64_t rows, float scale, float *q) {
  for (int64_t i = 0; i < ROWS; i++)
    for (int64_t c = 0; c < h->d; c++)
      q[i * h->d + c] = element(h->q, h->q_bf16, (first + smaller(i, rows - 1)) * h->q_stride + c) * scale;
}

static void attend_rows(Block *b, int64_t first, int64_t rows, float *y, int64_t y_stride) {
  const Head *h = b->head;
  load_queries(h, first, rows, h->scale * 1.44269504f, b->q); // log2(e)
  const int64_t most = keys_seen(h, first + rows - 1), keys = round_up(most, TILE);
  for (int64_t key = 0; key < keys; key += TILE)
    multiply(b->q, h->d, b->k + key * h->d, TILE, h->d, b->p + key, b->stride);
  float sums[ROWS];
  for (int64_t i = 0; i < rows; i++) {
    const int64_t seen = keys_seen(h, first + i);
    for (int64_t key = 0; h->bias && key < seen; key++)
      b->p[i * b->stride + key] += h->bias[(first + i) * h->bias_stride + key] * 1.44269504f;
    if (seen)
      sums[i] = exponentials(b->p + i * b->stride, seen, keys);
    else
      memset(b->p + i * b->stride, 0, keys * sizeof(float)), sums[i] = 1;
  }
  for (int64_t column = 0; column < h->d; column += TILE) {
    float sum[ROWS][TILE];
    multiply(b->p, b->stride, b->v + column, b->columns, most, sum[0], TILE);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t c = 0; c < smaller(TILE, h->d - column); c++)
        y[i * y_stride + column + c] = sum[i][c] / sums[i];
  }
}

static void float_attend(const Head *h, const Rows *rows) {
  Block b;
  b.head = h, b.stride = round_up(h->count, TILE), b.columns = round_up(h->d, TILE);
  b.k = (const float *)h->packed, b.v = b.k + b.stride * h->d;
  b.q = (float *)rows->work, b.p = b.q + ROWS * h->d;
  for (int64_t done = 0; done < rows->rows; done += ROWS)
    attend_rows(&b, rows->first + done, smaller(ROWS, rows->rows - done), rows->y + done * rows->y_stride,
                rows->y_stride);
}

static void float_products(const Head *h, const Products *p) {
  float *const q = (float *)p->work;
  for (int64_t done = 0; done < p->rows; done += ROWS) {
    load_queries(h, p->first + done, p->rows - done, h->scale, q);
    for (int64_t key = p->from; key < p->to; key += TILE)
      multiply(q, h->d, (const float *)h->packed + key * h->d, TILE, h->d, p->y + done * p->y_stride + key,
               p->y_stride);
  }
}

#include "attention_few.h"

#define ATTENTION_IN_FLOAT(name)                                                                             \
  extern "C" AttentionBytes attention_bytes_##name(int64_t count, int64_t d) {                               \
    return float_bytes(count, d);                                                                            \
  }                                                                                                          \
  extern "C" void attention_pack_##name(const Head *h) { float_pack(h); }                                    \
  extern "C" void attention_attend_##name(const Head *h, const Rows *rows) { float_attend(h, rows); }        \
  extern "C" void attention_few_##name(const Head *h, const Rows *rows) { float_attend_few(h, rows); }       \
  extern "C" void attention_products_##name(const Head *h, const Products *p) { float_products(h, p); }      \
  extern "C" void attention_look_up_##name(const LookUp *l) { look_up(l); }
