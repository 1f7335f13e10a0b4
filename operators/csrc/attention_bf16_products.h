// Queries in bfloat16, and their plain products with keys.
#pragma once

#include "attention_bf16_scores.h"

static inline int64_t query_pairs(int64_t d) { return round_up(d, 2 * LANES) / 2; }

// Queries times `factor` to bfloat16, and by lane the squares of their norms. Rows after the last are zeros.
template <bool BF16>
static void load_queries(Block *b, int64_t first, int64_t rows, float factor) {
  const Head h = *b->head;
  const __m512 scale = _mm512_set1_ps(factor);
  const int64_t stride = b->q_stride;
  int32_t *q = b->q;
  for (int64_t r = 0; r < round_up(rows, ROWS); r++, q += stride) {
    const int64_t at = (first + r) * h.q_stride;
    __m512 squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < 2 * stride; c += 2 * LANES) {
      const int64_t left = r < rows ? h.d - c : 0;
      const __m512i z = to_bf16(_mm512_mul_ps(load<BF16>(h.q, at + c, lanes(left)), scale),
                                _mm512_mul_ps(load<BF16>(h.q, at + c + LANES, lanes(left - LANES)), scale));
      dot(squares, z, z);
      _mm512_store_si512(q + c / 2, z);
    }
    _mm512_store_ps(b->sums[r], squares);
  }
}

// Six rows of 16 V keys.
template <int V>
static void product(const Block *b, int64_t row, int64_t key, float *y, int64_t y_stride) {
  __m512 c[ROWS][V] = {};
  multiply<ROWS, V>(c, b->q + row * b->q_stride, b->q_stride, b->packed.k + key * b->packed.pairs,
                    tile_width(&b->packed, key), b->packed.pairs);
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++)
    _mm512_storeu_ps(y + i * y_stride + j * LANES, c[i][j]);
}

static void multiply_all(const Head *h, const Products *p) {
  Block b;
  b.head = h, b.packed = packed_of(h), b.keys = p->to;
  b.q_stride = query_pairs(h->d), b.q = (int32_t *)p->work;
  b.sums = (float (*)[LANES])(b.q + BLOCK * b.q_stride);
  for (int64_t done = 0; done < p->rows; done += BLOCK) {
    const int64_t rows = smaller(BLOCK, p->rows - done);
    (h->q_bf16 ? load_queries<true> : load_queries<false>)(&b, p->first + done, rows, h->scale);
    for (int64_t key = p->from; key < p->to; key += TILE)
      for (int64_t row = 0; row < rows; row += ROWS) {
        const int64_t v = registers_at(&b, key);
        (v == 4   ? product<4>
         : v == 3 ? product<3>
         : v == 2 ? product<2>
                  : product<1>)(&b, row, key, p->y + (done + row) * p->y_stride + key, p->y_stride);
      }
  }
}
