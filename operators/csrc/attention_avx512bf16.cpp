// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mprefer-vector-width=512
// Attention through vdpbf16ps: queries, keys, values and probabilities rounded to bfloat16, sums in float.
#include <immintrin.h>

#include "attention.h"
#include "attention_bf16.h"
#include "attention_bf16_products.h"
#include "attention_bf16_scores.h"
#include "attention_bf16_shifts.h"
#include "attention_look_up_avx512.h"

// Not a multiple of a page for common lengths: rows would compete for the same lines of the cache.
static inline int64_t probability_pairs(int64_t count) { return round_up(count, TILE) / 2 + LANES; }

// What is added to the scores of `rows` rows, in their units, zeros behind the last key; of each the largest.
// Tiles before the first key and after the last that any of them looks at are left out: windows of tokens.
static void load_bias(Block *b, int64_t first, int64_t rows) {
  const Head h = *b->head;
  const __m512 unit = _mm512_set1_ps(LOG2_E * UNIT), lowest = _mm512_set1_ps(-__builtin_inff());
  int64_t from = h.count, last = -TILE;
  for (int64_t r = 0; r < round_up(rows, ROWS); r++) {
    const float *bias = h.bias + (first + r) * h.bias_stride;
    float *to = b->bias + r * b->bias_stride;
    __m512 high = lowest;
    for (int64_t key = 0; key < b->bias_stride; key += LANES) {
      const __mmask16 m = r < rows ? lanes(h.count - key) : 0;
      const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, bias + key), unit);
      _mm512_storeu_ps(to + key, x);
      high = _mm512_mask_max_ps(high, m, high, x);
      if (_mm512_mask_cmp_ps_mask(m, x, lowest, _CMP_NEQ_UQ))
        from = smaller(from, key), last = last > key ? last : key;
    }
    b->high[r] = _mm512_reduce_max_ps(high);
  }
  b->from = from / TILE * TILE;
  b->keys = smaller(h.count, (last / TILE + 1) * TILE);
}

// R rows of 16 V columns of the result.
template <int R, int V>
static void average(const Block *b, const Rows *out, int64_t row, int64_t column) {
  __m512 c[R][V];
  UNROLL
  for (int i = 0; i < R; i++)
    UNROLL
  for (int j = 0; j < V; j++)
    c[i][j] = _mm512_setzero_ps();
  const int64_t first = b->from / 2;
  multiply<R, V>(c, b->p + row * b->p_stride + first, b->p_stride,
                 b->packed.v + first * b->packed.columns + column, b->packed.columns,
                 (b->keys + 1) / 2 - first);
  float *y = out->y + row * out->y_stride + column;
  UNROLL
  for (int i = 0; i < R; i++) {
    if (row + i >= out->rows)
      break;
    const __m512 sum = _mm512_set1_ps(_mm512_reduce_add_ps(_mm512_load_ps(b->sums[row + i])));
    const __mmask16 any = b->seen[row + i] ? _mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_NEQ_UQ) : 0;
    UNROLL
    for (int j = 0; j < V; j++)
      _mm512_mask_storeu_ps(y + i * out->y_stride + j * LANES, lanes(b->head->d - column - j * LANES),
                            _mm512_maskz_div_ps(any, c[i][j], sum));
  }
}

template <int R, int V>
static void average_rows(const Block *b, const Rows *out, int64_t column) {
  for (int64_t row = 0; row < out->rows; row += R)
    average<R, V>(b, out, row, column);
}

static void average_columns(const Block *b, const Rows *out) {
  int64_t column = 0;
  for (; column + 64 <= b->packed.columns; column += 64)
    average_rows<6, 4>(b, out, column);
  const int64_t left = b->packed.columns - column;
  if (left == 48)
    average_rows<6, 3>(b, out, column);
  else if (left == 32)
    average_rows<12, 2>(b, out, column);
  else if (left == 16)
    average_rows<12, 1>(b, out, column);
}

static inline void ask_for(const void *rows, int64_t row, int64_t stride, int64_t d, int bf16) {
  const int64_t element = bf16 ? 2 : 4;
  for (int64_t at = 0; rows && at < d * element; at += 64)
    _mm_prefetch((const char *)rows + row * stride * element + at, _MM_HINT_T0);
}

// Asks for the next few of `rows` rows of a head's queries, keys and values: they would be waited for.
static void fetch(const Head *h, int64_t *row, int64_t last, int64_t rows) {
  for (const int64_t end = smaller(*row + rows, last); *row < end; ++*row) {
    ask_for(h->q, *row, h->q_stride, h->d, h->q_bf16);
    ask_for(h->k, *row, h->stride, h->d, h->bf16);
    ask_for(h->v, *row, h->stride, h->d, h->bf16);
  }
}

static void attend_block(Block *b, const Rows *out) {
  b->from = 0, b->keys = keys_seen(b->head, out->first + out->rows - 1);
  for (int64_t row = 0; row < BLOCK; row++)
    b->seen[row] = row < out->rows ? keys_seen(b->head, out->first + row) : b->keys;
  const float factor = b->head->scale * LOG2_E * UNIT;
  (b->head->q_bf16 ? load_queries<true> : load_queries<false>)(b, out->first, out->rows, factor);
  if (b->bias)
    load_bias(b, out->first, out->rows);
  Reach reach[BLOCK / ROWS];
  for (int64_t row = 0; row < out->rows; row += ROWS)
    reach[row / ROWS] = choose_shifts(b, row);
  int64_t row_to_come = out->first;
  const int64_t tiles = (b->keys - b->from + TILE - 1) / TILE * (BLOCK / ROWS),
                step = tiles ? (BLOCK + tiles - 1) / tiles : 0;
  for (int64_t key = b->from; key < b->keys; key += TILE)
    for (int64_t row = 0; row < out->rows; row += ROWS) {
      if (out->upcoming)
        fetch(out->upcoming, &row_to_come, out->first + out->rows, step);
      const Reach one = reach[row / ROWS];
      (one == WITHIN     ? weigh_tile<WITHIN>
       : one == ANYWHERE ? weigh_tile<ANYWHERE>
                         : weigh_tile<BIASED>)(b, row, key);
    }
  average_columns(b, out);
}

extern "C" AttentionBytes attention_bytes_avx512bf16(int64_t count, int64_t d) {
  const int64_t work =
      BLOCK * (query_pairs(d) + probability_pairs(count) + LANES + round_up(count, TILE)) * 4;
  return AttentionBytes{packed_bytes(count, d), work};
}

extern "C" void attention_pack_avx512bf16(const Head *h) {
  const Packed p = packed_of(h);
  (h->bf16 ? pack_keys<true> : pack_keys<false>)(*h, p);
  if (h->v)
    (h->bf16 ? pack_values<true> : pack_values<false>)(*h, p);
}

extern "C" void attention_attend_avx512bf16(const Head *h, const Rows *rows) {
  Block b;
  b.head = h, b.packed = packed_of(h);
  b.q_stride = query_pairs(h->d), b.p_stride = probability_pairs(h->count);
  b.q = (int32_t *)rows->work;
  b.p = b.q + BLOCK * b.q_stride;
  b.sums = (float (*)[LANES])(b.p + BLOCK * b.p_stride);
  b.bias = h->bias ? (float *)(b.sums + BLOCK) : nullptr, b.bias_stride = round_up(h->count, TILE);
  for (int64_t done = 0; done < rows->rows; done += BLOCK) {
    Rows part = *rows;
    part.first += done, part.rows = smaller(BLOCK, rows->rows - done), part.y += done * rows->y_stride;
    attend_block(&b, &part);
  }
}

extern "C" void attention_products_avx512bf16(const Head *h, const Products *p) { multiply_all(h, p); }

extern "C" void attention_look_up_avx512bf16(const LookUp *l) { look_up(l); }
