// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mprefer-vector-width=512
// Attention through vdpbf16ps: queries, keys, values and probabilities rounded to bfloat16, sums in float.
//
// exp(score - shift) is taken where the scores are summed, in registers, so shift must be known before. Any
// will do that overflows nothing, and |q| |k| bounds a score: only rows whose bound is large need their true
// maximum, which costs a second product of their queries with the keys.
#include <immintrin.h>

#include "attention.h"
#include "attention_bf16.h"

enum {
  ROWS = 6,
  BLOCK = 24
}; // rows of a tile of scores, and of what is done at a time: a multiple of 6 and 12

// Scores are in units of log 2. No exponent above HIGHEST: products with values stay far below 2^127, and
// sums too. A row whose bound is at most WIDEST has none below HIGHEST - 2 * WIDEST, which is far above
// 2^-126.
static const float HIGHEST = 50, WIDEST = 80, LOWEST = -125;
static const float LOG2_E = 1.44269504f;

typedef struct {
  const Head *head;
  Packed packed;
  int64_t q_stride, p_stride; // in pairs
  int32_t *q, *p;             // [BLOCK, q_stride], [BLOCK, p_stride]: queries and probabilities
  float (*sums)[LANES];       // [BLOCK]: of the probabilities, by lane
  float shift[BLOCK];         // subtracted from the scores
  int careful[BLOCK];         // is shift still to become the row's maximum?
} Block;

static inline int64_t query_pairs(int64_t d) { return round_up(d, 2 * LANES) / 2; }

// Not a multiple of a page for common lengths: rows would compete for the same lines of the cache.
static inline int64_t probability_pairs(int64_t count) { return round_up(count, TILE) / 2 + LANES; }

// 2^x for -126 < x < 127, error below 8e-5, which the rounding to bfloat16 (up to 2e-3) hides: x = n + f, and
// the polynomial is the one of degree 3 with the least relative error for |f| <= 1/2.
static inline __m512 exp2_of(__m512 x) {
  const __m512 magic = _mm512_set1_ps(12582912.0f); // the last bit of floats near it is worth one
  const __m512 n = _mm512_add_ps(x, magic);
  const __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(n, magic));
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.0551716690f), f, _mm512_set1_ps(0.242611122f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.693260985f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.999928074f));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(y), exponent));
}

// c[i][j] += sum over pairs of a[i, pair] * b[pair, 16 j ...], two products for each pair.
template <int R, int V>
static inline __attribute__((always_inline)) void multiply(__m512 (&c)[R][V], const int32_t *a,
                                                           int64_t a_stride, const int32_t *b,
                                                           int64_t b_stride, int64_t pairs) {
  for (int64_t pair = 0; pair < pairs; pair++, a++, b += b_stride) {
    __m512i column[V];
    UNROLL
    for (int j = 0; j < V; j++)
      column[j] = _mm512_loadu_si512(b + j * LANES);
    UNROLL
    for (int i = 0; i < R; i++) {
      const __m512i row = _mm512_set1_epi32(a[i * a_stride]);
      UNROLL
      for (int j = 0; j < V; j++)
        dot(c[i][j], row, column[j]);
    }
  }
}

// Probabilities, not yet divided by their sum, of six rows for the 16 V keys from `key` on.
template <int V, bool CAREFUL>
static void weigh(Block *b, int64_t row, int64_t key) {
  __m512 c[ROWS][V];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++)
    c[i][j] = _mm512_set1_ps(-b->shift[row + i]);
  multiply<ROWS, V>(c, b->q + row * b->q_stride, b->q_stride, b->packed.k + key * b->packed.pairs, V * LANES,
                    b->packed.pairs);
  const __mmask16 last = lanes(b->head->count - key - (V - 1) * LANES);
  int32_t *p = b->p + row * b->p_stride + key / 2;
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    UNROLL
    for (int j = 0; j < V; j++) {
      if (CAREFUL) // in this order NaN stays NaN
        c[i][j] = _mm512_max_ps(_mm512_set1_ps(LOWEST), c[i][j]);
      c[i][j] = exp2_of(c[i][j]);
    }
    c[i][V - 1] = _mm512_maskz_mov_ps(last, c[i][V - 1]);
    __m512 sum = c[i][0];
    UNROLL
    for (int j = 1; j < V; j++)
      sum = _mm512_add_ps(sum, c[i][j]);
    _mm512_store_ps(b->sums[row + i], _mm512_add_ps(_mm512_load_ps(b->sums[row + i]), sum));
    UNROLL
    for (int j = 0; j < V; j += 2) {
      const __m512 next = j + 1 < V ? c[i][j + 1 < V ? j + 1 : j] : _mm512_setzero_ps();
      _mm512_storeu_si512(p + i * b->p_stride + j * LANES / 2, to_bf16(c[i][j], next));
    }
  }
}

// The largest score of six rows and the 16 V keys from `key` on, by lane, added to what was found before.
template <int V>
static void largest(const Block *b, int64_t row, int64_t key, __m512 (&most)[ROWS]) {
  __m512 c[ROWS][V];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++)
    c[i][j] = _mm512_setzero_ps();
  multiply<ROWS, V>(c, b->q + row * b->q_stride, b->q_stride, b->packed.k + key * b->packed.pairs, V * LANES,
                    b->packed.pairs);
  const __mmask16 last = lanes(b->head->count - key - (V - 1) * LANES);
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    UNROLL
    for (int j = 0; j < V - 1; j++)
      most[i] = _mm512_max_ps(most[i], c[i][j]);
    most[i] = _mm512_mask_max_ps(most[i], last, most[i], c[i][V - 1]);
  }
}

static void find_maxima(Block *b, int64_t row) {
  __m512 most[ROWS];
  for (int i = 0; i < ROWS; i++)
    most[i] = _mm512_set1_ps(-__builtin_inff());
  for (int64_t key = 0; key < b->packed.keys; key += TILE) {
    const int64_t width = b->packed.keys - key;
    (width >= 64   ? largest<4>
     : width == 48 ? largest<3>
     : width == 32 ? largest<2>
                   : largest<1>)(b, row, key, most);
  }
  for (int i = 0; i < ROWS; i++)
    if (b->careful[row + i])
      b->shift[row + i] = _mm512_reduce_max_ps(most[i]);
}

template <bool CAREFUL>
static void weigh_tile(Block *b, int64_t row, int64_t key) {
  const int64_t width = b->packed.keys - key;
  (width >= 64   ? weigh<4, CAREFUL>
   : width == 48 ? weigh<3, CAREFUL>
   : width == 32 ? weigh<2, CAREFUL>
                 : weigh<1, CAREFUL>)(b, row, key);
}

// Queries times scale to bfloat16, and for each row what its scores are shifted by.
static void load_queries(Block *b, int64_t first, int64_t rows) {
  const Head *h = b->head;
  const __m512 scale = _mm512_set1_ps(h->scale * LOG2_E);
  for (int64_t r = 0; r < BLOCK; r++) {
    const int64_t d = r < rows ? h->d : 0, start = r < rows ? (first + r) * h->stride : 0;
    __m512 squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < 2 * b->q_stride; c += 2 * LANES) {
      const __m512 low = load_columns(h->q, h->bf16, start, c, d);
      const __m512 high = load_columns(h->q, h->bf16, start, c + LANES, d);
      const __m512i q = to_bf16(_mm512_mul_ps(low, scale), _mm512_mul_ps(high, scale));
      dot(squares, q, q);
      _mm512_store_si512(b->q + r * b->q_stride + c / 2, q);
    }
    const float bound = __builtin_sqrtf(_mm512_reduce_add_ps(squares)) * *b->packed.longest;
    b->careful[r] = r < rows && !(bound <= WIDEST);
    b->shift[r] = bound > HIGHEST && bound <= WIDEST ? bound - HIGHEST : 0;
    _mm512_store_ps(b->sums[r], _mm512_setzero_ps());
  }
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
  multiply<R, V>(c, b->p + row * b->p_stride, b->p_stride, b->packed.v + column, b->packed.columns,
                 (b->head->count + 1) / 2);
  float *y = out->y + row * out->y_stride + column;
  UNROLL
  for (int i = 0; i < R; i++) {
    if (row + i >= out->rows)
      break;
    const __m512 sum = _mm512_set1_ps(_mm512_reduce_add_ps(_mm512_load_ps(b->sums[row + i])));
    UNROLL
    for (int j = 0; j < V; j++)
      _mm512_mask_storeu_ps(y + i * out->y_stride + j * LANES, lanes(b->head->d - column - j * LANES),
                            _mm512_div_ps(c[i][j], sum));
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

static void attend_block(Block *b, const Rows *out) {
  load_queries(b, out->first, out->rows);
  int careful[BLOCK / ROWS];
  for (int64_t row = 0; row < out->rows; row += ROWS) {
    int any = 0;
    for (int i = 0; i < ROWS; i++)
      any |= b->careful[row + i];
    careful[row / ROWS] = any;
    if (any)
      find_maxima(b, row);
  }
  for (int64_t key = 0; key < b->packed.keys; key += TILE)
    for (int64_t row = 0; row < out->rows; row += ROWS)
      (careful[row / ROWS] ? weigh_tile<true> : weigh_tile<false>)(b, row, key);
  average_columns(b, out);
}

extern "C" AttentionBytes attention_bytes_avx512bf16(int64_t count, int64_t d) {
  const int64_t work = BLOCK * (query_pairs(d) + probability_pairs(count) + LANES) * 4;
  return AttentionBytes{packed_bytes(count, d), work};
}

extern "C" void attention_pack_avx512bf16(const Head *h) {
  const Packed p = packed_of(h);
  pack_keys(h, &p);
  pack_values(h, &p);
}

extern "C" void attention_attend_avx512bf16(const Head *h, const Rows *rows) {
  Block b;
  b.head = h, b.packed = packed_of(h);
  b.q_stride = query_pairs(h->d), b.p_stride = probability_pairs(h->count);
  b.q = (int32_t *)rows->work;
  b.p = b.q + BLOCK * b.q_stride;
  b.sums = (float (*)[LANES])(b.p + BLOCK * b.p_stride);
  for (int64_t done = 0; done < rows->rows; done += BLOCK) {
    Rows part = *rows;
    part.first += done, part.rows = smaller(BLOCK, rows->rows - done), part.y += done * rows->y_stride;
    attend_block(&b, &part);
  }
}
