// Scores to probabilities that are still to be divided by their sum, in bfloat16.
//
// 2^(score - shift) is taken where the scores are summed, in registers, so shift must be known before. Any
// will do that overflows nothing, and |q| |k| bounds a score: only rows whose bound is large need their true
// maximum, which costs a second product of their queries with the keys.
#pragma once

#include "attention_bf16.h"

// Rows of a tile of scores, and of what is done at a time: a multiple of 6 and 12.
enum { ROWS = 6, BLOCK = 24 };

// A score is log2(e) * scale * q k in units of 2^-8, so that as an integer of 16 bits it is an exponent and 8
// bits of a fraction f. No exponent above HIGHEST: products with values stay far below 2^127, and so do sums.
// A row whose bound is at most WIDEST has none below HIGHEST - 2 * WIDEST: times a value of 2^-36 that still
// is above 2^-126, and what is not counts for nothing.
static const float UNIT = 256, HIGHEST = 60, WIDEST = 75;
static const float LOG2_E = 1.44269504f;

// Added to 256 f it makes 256 (2^f - 1), less half a unit: BEND + 256 (2^f - 1 - f), which is never negative,
// by the upper 6 bits of the fraction of 256 f - BEND, which is what is at hand; rounded down.
enum { BEND = 22 };
static const uint16_t CURVE[64] = {15, 14, 13, 12, 11, 10, 9,  8,  8,  7,  6,  5,  5,  4,  3,  3,
                                   2,  2,  2,  1,  1,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                   0,  0,  0,  1,  1,  1,  2,  2,  3,  3,  4,  5,  5,  6,  7,  8,
                                   9,  10, 11, 12, 13, 14, 16, 17, 18, 20, 21, 20, 19, 18, 17, 16};

namespace { // other files have Blocks of their own
typedef struct {
  const Head *head;
  Packed packed;
  int64_t q_stride, p_stride; // in pairs
  int32_t *q, *p;             // [BLOCK, q_stride], [BLOCK, p_stride]: queries and probabilities
  float (*sums)[LANES];       // [BLOCK], by lane: squares of the queries, then sums of the probabilities
  int64_t seen[BLOCK], keys;  // how many keys each row looks at, and the most of them
  int64_t from;               // the first of them that any row looks at, a multiple of TILE
  float start[BLOCK];  // what sums of scores start from: 127 UNIT - BEND, less the shift; 127 is 1's exponent
  float *bias;         // [BLOCK, bias_stride] what is added to each score, in its units; null: nothing
  int64_t bias_stride; // a multiple of TILE
  float high[BLOCK];   // a row's largest
} Block;

// How far scores may reach: not out of exp2_of's range, anywhere, or anywhere with a bias added.
enum Reach { WITHIN, ANYWHERE, BIASED };
} // namespace

// 2^((x + BEND) / UNIT - 127) in bfloat16 for 32 x from 0 to 253 UNIT, zeros where `keep` has none. The root
// mean square of the relative error is 1.9e-3, of rounding alone 1.7e-3. The average rounds half of an odd
// sum up.
static inline __m512i exp2_of(__m512 low, __m512 high, __mmask32 keep) {
  const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30,
                                        28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i x = _mm512_permutex2var_epi16(_mm512_cvtps_epi32(low), even, _mm512_cvtps_epi32(high));
  const __m512i bend = _mm512_permutex2var_epi16(_mm512_loadu_si512(CURVE), _mm512_srli_epi16(x, 2),
                                                 _mm512_loadu_si512(CURVE + 32));
  return _mm512_maskz_avg_epu16(keep, x, bend);
}

// The same for any x: nothing for what is below 0, and NaN stays NaN.
static inline __m512i exp2_of_any(__m512 low, __m512 high, __mmask32 keep) {
  const __m512 zero = _mm512_setzero_ps();
  const __mmask32 nan = _mm512_cmp_ps_mask(low, low, _CMP_UNORD_Q) |
                        (__mmask32)_mm512_cmp_ps_mask(high, high, _CMP_UNORD_Q) << LANES;
  const __m512i y = exp2_of(_mm512_max_ps(low, zero), _mm512_max_ps(high, zero), keep);
  return _mm512_mask_mov_epi16(y, nan & keep, _mm512_set1_epi16(0x7fc0));
}

// Keys from one pair of columns to the next in the tile that begins at `key`.
static inline int64_t tile_width(const Packed *p, int64_t key) { return smaller(TILE, p->keys - key); }

// Which of 32 keys from `key` on the row at `row` looks at.
static inline __mmask32 seen_of(const Block *b, int64_t row, int64_t key) {
  const int64_t left = b->seen[row] - key;
  return lanes(left) | (__mmask32)lanes(left - LANES) << LANES;
}

static inline __m512 bias_at(const Block *b, int64_t row, int64_t key) {
  return _mm512_loadu_ps(b->bias + row * b->bias_stride + key);
}

// Which of the keys of a tile six rows look at: all of its 64, all rows at the same, or each at others.
enum Seen { ALL, SAME, EACH };

// Probabilities, not yet divided by their sum, of six rows for the 16 V keys from `key` on.
template <int V, Reach REACH, Seen SEEN>
static void weigh(Block *b, int64_t row, int64_t key) {
  __m512 c[ROWS][V];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++) {
    c[i][j] = _mm512_set1_ps(b->start[row + i]);
    if (REACH == BIASED)
      c[i][j] = _mm512_add_ps(c[i][j], bias_at(b, row + i, key + j * LANES));
  }
  multiply<ROWS, V>(c, b->q + row * b->q_stride, b->q_stride, b->packed.k + key * b->packed.pairs,
                    tile_width(&b->packed, key), b->packed.pairs);
  const __m512i one = _mm512_set1_epi16(0x3f80);
  int32_t *p = b->p + row * b->p_stride + key / 2;
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    __m512 sum = _mm512_load_ps(b->sums[row + i]);
    UNROLL
    for (int j = 0; j < V; j += 2) {
      const __m512 low = c[i][j], high = j + 1 < V ? c[i][j + 1 < V ? j + 1 : j] : low;
      const __mmask32 keep =
          SEEN == ALL ? ~(__mmask32)0 : seen_of(b, SEEN == EACH ? row + i : row, key + j * LANES);
      const __m512i y = REACH == WITHIN ? exp2_of(low, high, keep) : exp2_of_any(low, high, keep);
      dot(sum, y, one);
      _mm512_storeu_si512(p + i * b->p_stride + j * LANES / 2, y);
    }
    _mm512_store_ps(b->sums[row + i], sum);
  }
}

// How many registers of the tile at `key` any row of the block looks at.
static inline int64_t registers_at(const Block *b, int64_t key) {
  return (smaller(TILE, b->keys - key) + LANES - 1) / LANES;
}

// Whether six rows look at different keys of the tile at `key`.
static inline int differ(const Block *b, int64_t row, int64_t key) {
  return b->head->causal && b->seen[row] < key + TILE && b->seen[row] != b->seen[row + ROWS - 1];
}

template <Reach REACH, Seen SEEN>
static void weigh_some(Block *b, int64_t row, int64_t key) {
  const int64_t v = registers_at(b, key);
  (v == 4   ? weigh<4, REACH, SEEN>
   : v == 3 ? weigh<3, REACH, SEEN>
   : v == 2 ? weigh<2, REACH, SEEN>
            : weigh<1, REACH, SEEN>)(b, row, key);
}

template <Reach REACH>
static void weigh_tile(Block *b, int64_t row, int64_t key) {
  if (b->seen[row] >= key + TILE) // the row that looks at the fewest
    weigh<4, REACH, ALL>(b, row, key);
  else
    (differ(b, row, key) ? weigh_some<REACH, EACH> : weigh_some<REACH, SAME>)(b, row, key);
}
