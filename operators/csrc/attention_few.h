// Attention of a few rows, one after another: each reads the keys, then the values, once, as they lie in
// memory. Part of attention_float.h.
#pragma once

enum { PAIR = 2 * LANES }; // columns at a time

typedef uint32_t Bits __attribute__((vector_size(LANES * 4), aligned(2), may_alias));
typedef float Quad __attribute__((vector_size(16), aligned(4), may_alias));

// Where column c of a row of bfloat16 is while it is float: of PAIR neighbours, which share 32 bits two by
// two, the even ones come first.
template <bool BF16>
static inline int64_t place_of(int64_t c, int64_t d) {
  const int64_t in = c % PAIR, first = c - in;
  return BF16 && first + PAIR <= d ? first + in / 2 + in % 2 * LANES : c;
}

// PAIR columns from `at` on, in two registers.
template <bool BF16>
static inline void load_pair(const void *base, int64_t at, Floats &one, Floats &other) {
  if (BF16) {
    const Bits both = *(const Bits *)((const uint16_t *)base + at);
    one = (Floats)(both << 16), other = (Floats)(both & 0xffff0000);
  } else {
    one = *(const Floats *)((const float *)base + at);
    other = *(const Floats *)((const float *)base + at + LANES);
  }
}

static inline float sum_of(Floats a) {
  float lanes[LANES];
  *(Floats *)lanes = a;
  Quad sum = *(const Quad *)lanes;
  for (int i = 4; i < LANES; i += 4)
    sum += *(const Quad *)(lanes + i);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// scores[i] = q * key i for the first `count` keys.
template <bool BF16>
static void score(const Head *h, const float *q, int64_t count, float *scores) {
  const int64_t d = h->d, whole = d / PAIR * PAIR;
  for (int64_t key = 0; key < count; key++) {
    const int64_t at = key_row(h, key) * h->stride;
    Floats even = (Floats){}, odd = (Floats){};
    for (int64_t c = 0; c < whole; c += PAIR) {
      Floats one, other;
      load_pair<BF16>(h->k, at + c, one, other);
      even += *(const Floats *)(q + c) * one;
      odd += *(const Floats *)(q + c + LANES) * other;
    }
    float sum = sum_of(even + odd);
    for (int64_t c = whole; c < d; c++)
      sum += q[c] * element(h->k, BF16, at + c);
    scores[key] = sum;
  }
}

// V pairs of registers of y from `column` on: the values of the first `count` keys, each as often as p says.
template <bool BF16, int V>
static void mix(const Head *h, const float *p, int64_t count, int64_t column, float *y) {
  Floats sums[V][2];
  UNROLL
  for (int j = 0; j < V; j++)
    sums[j][0] = sums[j][1] = (Floats){};
  for (int64_t key = 0; key < count; key++) {
    const int64_t at = key_row(h, key) * h->stride + column;
    UNROLL
    for (int j = 0; j < V; j++) {
      Floats one, other;
      load_pair<BF16>(h->v, at + j * PAIR, one, other);
      sums[j][0] += p[key] * one;
      sums[j][1] += p[key] * other;
    }
  }
  UNROLL
  for (int j = 0; j < V; j++) {
    *(Floats *)(y + column + j * PAIR) = sums[j][0];
    *(Floats *)(y + column + j * PAIR + LANES) = sums[j][1];
  }
}

// y, its columns at their place_of, = the values, each as often as p says.
template <bool BF16>
static void mix_all(const Head *h, const float *p, int64_t count, float *y) {
  int64_t column = 0;
  for (; column + 2 * PAIR <= h->d; column += 2 * PAIR)
    mix<BF16, 2>(h, p, count, column, y);
  for (; column + PAIR <= h->d; column += PAIR)
    mix<BF16, 1>(h, p, count, column, y);
  for (; column < h->d; column++) {
    y[column] = 0;
    for (int64_t key = 0; key < count; key++)
      y[column] += p[key] * element(h->v, BF16, key_row(h, key) * h->stride + column);
  }
}

template <bool BF16>
static void attend_each(const Head *h, const Rows *rows) {
  const float scale = h->scale * 1.44269504f; // log2(e)
  float *q = (float *)rows->work, *p = q + round_up(h->d, 16);
  for (int64_t row = rows->first; row < rows->first + rows->rows; row++) {
    float *y = rows->y + (row - rows->first) * rows->y_stride;
    const int64_t seen = keys_seen(h, row);
    if (!seen) {
      memset(y, 0, h->d * sizeof(float));
      continue;
    }
    for (int64_t c = 0; c < h->d; c++)
      q[place_of<BF16>(c, h->d)] = element(h->q, h->q_bf16, row * h->q_stride + c) * scale;
    score<BF16>(h, q, seen, p);
    const float sum = exponentials(p, seen, round_up(seen, TILE));
    mix_all<BF16>(h, p, seen, q); // the query is not read any more
    for (int64_t c = 0; c < h->d; c++)
      y[c] = q[place_of<BF16>(c, h->d)] / sum;
  }
}

static void float_attend_few(const Head *h, const Rows *rows) {
  (h->bf16 ? attend_each<true> : attend_each<false>)(h, rows);
}
