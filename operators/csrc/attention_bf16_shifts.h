// What the sums of scores start from, so that their powers of 2 overflow nothing: attention_bf16_scores.h
// says why.
#pragma once

#include "attention_bf16_scores.h"

// The largest score of six rows and the 16 V keys from `key` on, by lane, added to what was found before.
template <int V, Seen SEEN>
static void largest(const Block *b, int64_t row, int64_t key, __m512 (&most)[ROWS]) {
  __m512 c[ROWS][V];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++)
    c[i][j] = b->bias ? bias_at(b, row + i, key + j * LANES) : _mm512_setzero_ps();
  multiply<ROWS, V>(c, b->q + row * b->q_stride, b->q_stride, b->packed.k + key * b->packed.pairs,
                    tile_width(&b->packed, key), b->packed.pairs);
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < V; j++) {
    const __mmask16 seen = lanes(b->seen[SEEN == EACH ? row + i : row] - key - j * LANES);
    most[i] = _mm512_mask_max_ps(most[i], seen, most[i], c[i][j]);
  }
}

static void find_maxima(const Block *b, int64_t row, __m512 (&most)[ROWS]) {
  for (int i = 0; i < ROWS; i++)
    most[i] = _mm512_set1_ps(-__builtin_inff());
  for (int64_t key = b->from; key < b->keys; key += TILE) {
    const int64_t v = registers_at(b, key);
    if (differ(b, row, key))
      (v == 4   ? largest<4, EACH>
       : v == 3 ? largest<3, EACH>
       : v == 2 ? largest<2, EACH>
                : largest<1, EACH>)(b, row, key, most);
    else
      (v == 4   ? largest<4, SAME>
       : v == 3 ? largest<3, SAME>
       : v == 2 ? largest<2, SAME>
                : largest<1, SAME>)(b, row, key, most);
  }
}

// The same for rows whose scores have a bias: no score is above the bound of its product and the largest
// bias.
static void choose_biased_shifts(Block *b, int64_t row) {
  __m512 most[ROWS];
  int any = 0, wide[ROWS];
  for (int i = 0; i < ROWS; i++) {
    const float square = _mm512_reduce_add_ps(_mm512_load_ps(b->sums[row + i]));
    const float bound = __builtin_sqrtf(square) * *b->packed.longest;
    wide[i] = !(bound <= WIDEST * UNIT); // or NaN
    any |= wide[i];
    b->start[row + i] = 127 * UNIT - BEND;
    if (!wide[i] && b->high[row + i] != -__builtin_inff()) // all of its scores are, and count for nothing
      b->start[row + i] -= bound + b->high[row + i] - HIGHEST * UNIT;
    _mm512_store_ps(b->sums[row + i], _mm512_setzero_ps());
  }
  if (!any)
    return;
  find_maxima(b, row, most);
  for (int i = 0; i < ROWS; i++)
    if (wide[i] && b->high[row + i] != -__builtin_inff())
      b->start[row + i] -= _mm512_reduce_max_ps(most[i]);
}

// Sets what the sums of six rows start from, clears their squares; how far their scores may reach.
static Reach choose_shifts(Block *b, int64_t row) {
  if (b->bias) {
    choose_biased_shifts(b, row);
    return BIASED;
  }
  __m512 squares[ROWS], all = _mm512_setzero_ps();
  for (int i = 0; i < ROWS; i++) {
    squares[i] = _mm512_load_ps(b->sums[row + i]);
    all = largest_of(all, squares[i]);
    b->start[row + i] = 127 * UNIT - BEND;
    _mm512_store_ps(b->sums[row + i], _mm512_setzero_ps());
  }
  // no row's bound is larger than this one; a row's shift does not depend on the rows beside it
  if (__builtin_sqrtf(_mm512_reduce_add_ps(all)) * *b->packed.longest <= HIGHEST * UNIT)
    return WITHIN;
  int careful[ROWS], any = 0;
  for (int i = 0; i < ROWS; i++) {
    const float bound = __builtin_sqrtf(_mm512_reduce_add_ps(squares[i])) * *b->packed.longest;
    careful[i] = !(bound <= WIDEST * UNIT); // or NaN
    any |= careful[i];
    if (!careful[i] && bound > HIGHEST * UNIT)
      b->start[row + i] -= bound - HIGHEST * UNIT;
  }
  if (!any)
    return WITHIN;
  __m512 most[ROWS];
  find_maxima(b, row, most);
  for (int i = 0; i < ROWS; i++)
    if (careful[i])
      b->start[row + i] -= _mm512_reduce_max_ps(most[i]);
  return ANYWHERE;
}
