// Scores to probabilities that are still to be divided by their sum, in bfloat16.
//
// 2^(score - shift) is taken where the scores are summed, in registers, so shift must be known before. Any
// will do that overflows nothing, and |q| |k| bounds a score: only rows whose bound is large need their true
// maximum, which costs a second product of their queries with the keys.
#pragma once

#include "attention_bf16.h"

// Rows of a tile of scores, and of what is done at a time: a multiple of 6 and 12.
enum { ROWS = 6, BLOCK = 24 };

// A score is log2(e) * scale * q k in units of 2^-23, so that as an integer it is a float's exponent and
// mantissa. No exponent above HIGHEST: products with values stay far below 2^127, and so do sums. A row whose
// bound is at most WIDEST has none below HIGHEST - 2 * WIDEST, which is above 2^-126.
static const float UNIT = 8388608, HIGHEST = 60, WIDEST = 90, LOWEST = -125;
static const float LOG2_E = 1.44269504f;

namespace { // other files have Blocks of their own
typedef struct {
  const Head *head;
  Packed packed;
  int64_t q_stride, p_stride; // in pairs
  int32_t *q, *p;             // [BLOCK, q_stride], [BLOCK, p_stride]: queries and probabilities
  float (*sums)[LANES];       // [BLOCK], by lane: squares of the queries, then sums of the probabilities
  float start[BLOCK];         // what sums of scores start from: 127 UNIT, the exponent of 1, less the shift
} Block;
} // namespace

// 2^(x / UNIT - 127) for x from 2 to 253 UNIT, error below 1.1e-4, which the rounding to bfloat16 (up to
// 2e-3) hides. The exponent is the upper bits of x as an integer; the mantissa is a polynomial in 1 + its
// lower bits, the one of degree 3 with the least relative error among those that stay between 1.00001
// and 1.99998.
static inline __m512 exp2_of(__m512 x) {
  const __m512i mantissa = _mm512_set1_epi32(0x7fffff), one = _mm512_set1_epi32(0x3f800000);
  const __m512i bits = _mm512_cvtps_epi32(x);
  const __m512 t =
      _mm512_castsi512_ps(_mm512_ternarylogic_epi32(bits, mantissa, one, 0xea)); // bits & m | one
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.0779922232f), t, _mm512_set1_ps(-0.00728374254f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.475875676f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.453425825f));
  const __m512i chosen =
      _mm512_ternarylogic_epi32(mantissa, _mm512_castps_si512(y), bits, 0xca); // m ? y : bits
  return _mm512_castsi512_ps(chosen);
}

// The same for any x: from below LOWEST on it is 2^LOWEST, and NaN stays NaN.
static inline __m512 exp2_of_any(__m512 x) {
  const __m512 y = exp2_of(_mm512_max_ps(_mm512_set1_ps((LOWEST + 127) * UNIT), x));
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}

// Probabilities, not yet divided by their sum, of six rows for the 16 V keys from `key` on.
template <int V, bool CAREFUL>
static void weigh(Block *b, int64_t row, int64_t key) {
  __m512 c[ROWS][V];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++)
    c[i][j] = _mm512_set1_ps(b->start[row + i]);
  multiply<ROWS, V>(c, b->q + row * b->q_stride, b->q_stride, b->packed.k + key * b->packed.pairs, V * LANES,
                    b->packed.pairs);
  const __mmask16 last = lanes(b->head->count - key - (V - 1) * LANES);
  int32_t *p = b->p + row * b->p_stride + key / 2;
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    UNROLL
    for (int j = 0; j < V; j++)
      c[i][j] = CAREFUL ? exp2_of_any(c[i][j]) : exp2_of(c[i][j]);
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

static void find_maxima(const Block *b, int64_t row, __m512 (&most)[ROWS]) {
  for (int i = 0; i < ROWS; i++)
    most[i] = _mm512_set1_ps(-__builtin_inff());
  for (int64_t key = 0; key < b->packed.keys; key += TILE) {
    const int64_t width = b->packed.keys - key;
    (width >= 64   ? largest<4>
     : width == 48 ? largest<3>
     : width == 32 ? largest<2>
                   : largest<1>)(b, row, key, most);
  }
}

// Sets what the sums of six rows start from, clears their squares; 1 if scores may leave exp2_of's range.
static int choose_shifts(Block *b, int64_t row) {
  __m512 squares[ROWS], all = _mm512_setzero_ps();
  for (int i = 0; i < ROWS; i++) {
    squares[i] = _mm512_load_ps(b->sums[row + i]);
    all = largest_of(all, squares[i]);
    b->start[row + i] = 127 * UNIT;
    _mm512_store_ps(b->sums[row + i], _mm512_setzero_ps());
  }
  // no row's bound is larger than this one; a row's shift does not depend on the rows beside it
  if (__builtin_sqrtf(_mm512_reduce_add_ps(all)) * *b->packed.longest <= HIGHEST * UNIT)
    return 0;
  int careful[ROWS], any = 0;
  for (int i = 0; i < ROWS; i++) {
    const float bound = __builtin_sqrtf(_mm512_reduce_add_ps(squares[i])) * *b->packed.longest;
    careful[i] = !(bound <= WIDEST * UNIT); // or NaN
    any |= careful[i];
    if (!careful[i] && bound > HIGHEST * UNIT)
      b->start[row + i] -= bound - HIGHEST * UNIT;
  }
  if (!any)
    return 0;
  __m512 most[ROWS];
  find_maxima(b, row, most);
  for (int i = 0; i < ROWS; i++)
    if (careful[i])
      b->start[row + i] -= _mm512_reduce_max_ps(most[i]);
  return 1;
}

template <bool CAREFUL>
static void weigh_tile(Block *b, int64_t row, int64_t key) {
  const int64_t width = b->packed.keys - key;
  (width >= 64   ? weigh<4, CAREFUL>
   : width == 48 ? weigh<3, CAREFUL>
   : width == 32 ? weigh<2, CAREFUL>
                 : weigh<1, CAREFUL>)(b, row, key);
}
