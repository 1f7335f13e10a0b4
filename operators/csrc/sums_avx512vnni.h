// The sums of a tile in AVX-512 with VNNI: up to 6 rows by 64 columns in 24 registers, group after group, and
// what is brought near meanwhile.
#pragma once

#include <immintrin.h>

#include "kernels.h"

// Sums live in registers only if no loop indexes them at run time.
#define UNROLL _Pragma("GCC unroll 8")

enum {
  LANES = 16,
  VECTORS = PANEL / LANES,
  MOST_ROWS = 6,
  AHEAD = 8192, // bytes ahead of their use that weights are asked for
  CHUNK = 64,   // groups that stay in the L1 cache until all of few rows have had them
  LINE = 64,    // bytes of a cache line, a quarter of a group
  QUARTERS = PANEL * GROUP / LINE
};

// _mm512_dpbusd_epi32 in a tile of this size makes g++ 12 spill sums to the stack; with "+v" they stay put.
static inline void dot(__m512i &sum, __m512i a, __m512i b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

template <int ROWS>
static inline void add_group(__m512i (&c)[ROWS][VECTORS], const int8_t *w, const uint8_t *a, int64_t stride) {
  __m512i b[VECTORS];
  UNROLL
  for (int j = 0; j < VECTORS; j++)
    b[j] = _mm512_loadu_si512(w + j * LANES * GROUP);
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    int32_t word;
    memcpy(&word, a + i * stride, GROUP);
    const __m512i q = _mm512_set1_epi32(word);
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      dot(c[i][j], q, b[j]);
  }
}

// What a loop over groups asks for besides: nothing; some of the four lines of its own weights, bit by bit,
// which come from memory, a good way ahead; or a quarter of the panel that comes next, for the L2 cache, from
// where the loads themselves are fast enough.
enum { NOTHING = 0, OWN = (1 << QUARTERS) - 1, NEXT = OWN + 1 };

// Of one group; beyond the end it does nothing.
template <int FETCH>
static inline void fetch(const int8_t *w, const int8_t *next) {
  const int ahead = FETCH == OWN ? AHEAD : CHUNK * PANEL * GROUP;
  UNROLL
  for (int j = 0; j < QUARTERS; j++)
    if (FETCH >> j & 1)
      _mm_prefetch((const char *)w + ahead + j * LINE, _MM_HINT_T0);
  if (FETCH == NEXT)
    _mm_prefetch((const char *)next, _MM_HINT_T1);
}

// Groups from .. to.
template <int ROWS, int FETCH>
static inline void add_groups(__m512i (&c)[ROWS][VECTORS], const Strip *s, int64_t row, int64_t from,
                              int64_t to, const int8_t *next = nullptr) {
  const int64_t all = s->k / GROUP, whole = to < all ? to : all;
  const uint8_t *q = s->q + row * s->q_stride + from * GROUP;
  const int8_t *w = s->panel + from * PANEL * GROUP;
  for (int64_t g = from; g < whole; g++, q += GROUP, w += PANEL * GROUP, next += LINE) {
    fetch<FETCH>(w, next);
    add_group<ROWS>(c, w, q, s->q_stride);
  }
  if (whole < to) { // the last group from a padded copy: nothing beyond a row is read
    uint32_t last[ROWS];
    UNROLL
    for (int i = 0; i < ROWS; i++)
      last[i] = load_group(s->q + (row + i) * s->q_stride, s->k, whole);
    add_group<ROWS>(c, w, (const uint8_t *)last, GROUP);
  }
}

static inline int64_t groups_of(const Strip *s) { return (s->k + GROUP - 1) / GROUP; }

// The first groups, at most one for each register of sums, and with each a line of `near`: a store to memory
// that another core had last waits for it, and stores wait for each other. Returns the number of groups.
template <int ROWS, int FETCH>
static inline int64_t add_first_groups(__m512i (&c)[ROWS][VECTORS], const Strip *s, int64_t row,
                                       const int8_t *next) {
  const float *near = s->near + row * s->out_stride;
  const uint8_t *q = s->q + row * s->q_stride;
  const int8_t *w = s->panel;
  const int64_t all = s->k / GROUP, lines = all < ROWS * VECTORS ? all : ROWS * VECTORS;
  for (int64_t g = 0; g < lines; g++, q += GROUP, w += PANEL * GROUP, next += LINE) {
    __builtin_prefetch(near + g / VECTORS * s->out_stride + g % VECTORS * LANES, 1);
    fetch<FETCH>(w, next);
    add_group<ROWS>(c, w, q, s->q_stride);
  }
  return lines;
}
