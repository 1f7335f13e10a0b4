// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512
// AVX-512 with VNNI: tiles of 6 rows by 64 columns, 24 registers of sums, B streamed from the packed panel.
#include <immintrin.h>

#include "kernels.h"
#include "rows.h"

// Sums live in registers only if no loop indexes them at run time.
#define UNROLL _Pragma("GCC unroll 8")

enum {
  LANES = 16,
  VECTORS = PANEL / LANES,
  MOST_ROWS = 6,
  FEW = 18,    // rows up to which the weights may come from memory more slowly than they are multiplied
  CHUNK = 32,  // groups that stay in the L1 cache until all of these rows have had them
  AHEAD = 8192 // bytes ahead of their use that weights are asked for
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

static inline __mmask16 columns_in(int64_t left) {
  return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
}

// Out of line, from memory: inlined in the tile, its loops over the sums would keep them out of registers.
__attribute__((noinline)) static void store(const Strip *s, int64_t row, int rows,
                                            const int32_t (*sums)[PANEL]) {
  for (int n = 0; n < s->columns; n += LANES) {
    const __mmask16 m = columns_in(s->columns - n);
    const __m512i weight_sum = _mm512_maskz_loadu_epi32(m, s->weight_sum + n);
    const __m512 weight_scale = s->y ? _mm512_maskz_loadu_ps(m, s->weight_scale + n) : _mm512_setzero_ps();
    const __m512 bias = s->bias ? _mm512_maskz_loadu_ps(m, s->bias + n) : _mm512_setzero_ps();
    for (int i = 0; i < rows; i++) {
      const __m512i zero = _mm512_set1_epi32(s->zero_point[row + i]);
      const __m512i sum = _mm512_loadu_si512(sums[i] + n);
      const __m512i acc = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, weight_sum));
      const int64_t at = (row + i) * s->out_stride + n;
      if (s->acc)
        _mm512_mask_storeu_epi32(s->acc + at, m, acc);
      if (!s->y)
        continue;
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(s->scale[row + i]), weight_scale);
      __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
      if (s->bias)
        y = _mm512_add_ps(y, bias);
      _mm512_mask_storeu_ps(s->y + at, m, y);
    }
  }
}

static inline void fetch(const int8_t *w) { // one group; beyond the end it does nothing
  UNROLL
  for (int j = 0; j < VECTORS; j++)
    _mm_prefetch((const char *)w + j * LANES * GROUP, _MM_HINT_T0);
}

// Adds groups from .. to of ROWS rows to sums. FETCH: the weights come from memory, so they are asked for
// early.
template <int ROWS, bool FETCH>
static void part(const Strip *s, int64_t row, int64_t from, int64_t to, int32_t (*sums)[PANEL]) {
  __m512i c[ROWS][VECTORS];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    c[i][j] = _mm512_loadu_si512(sums[i] + j * LANES);
  const int64_t all = s->k / GROUP, whole = to < all ? to : all;
  const uint8_t *q = s->q + row * s->q_stride + from * GROUP;
  const int8_t *w = s->panel + from * PANEL * GROUP;
  for (int64_t g = from; g < whole; g++, q += GROUP, w += PANEL * GROUP) {
    if (FETCH)
      fetch(w + AHEAD);
    add_group<ROWS>(c, w, q, s->q_stride);
  }
  if (whole < to) { // the last group from a padded copy: nothing beyond a row is read
    uint32_t last[ROWS];
    UNROLL
    for (int i = 0; i < ROWS; i++)
      last[i] = load_group(s->q + (row + i) * s->q_stride, s->k, whole);
    add_group<ROWS>(c, w, (const uint8_t *)last, GROUP);
  }
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    _mm512_storeu_si512(sums[i] + j * LANES, c[i][j]);
}

typedef void (*Part)(const Strip *, int64_t, int64_t, int64_t, int32_t (*)[PANEL]);

template <bool FETCH>
static inline void add(const Strip *s, int64_t row, int rows, int64_t from, int64_t to,
                       int32_t (*sums)[PANEL]) {
  static const Part parts[] = {nullptr,        part<1, FETCH>, part<2, FETCH>, part<3, FETCH>,
                               part<4, FETCH>, part<5, FETCH>, part<6, FETCH>};
  parts[rows](s, row, from, to, sums);
}

// Up to FEW rows, in tiles as equal as can be. The weights of a chunk of groups are read once, for all rows:
// reading goes on while they are multiplied, since a CPU looks further ahead than one chunk.
static void few(const Strip *s, int64_t groups) {
  const int rows = (int)s->rows, tiles = (rows + MOST_ROWS - 1) / MOST_ROWS;
  const int64_t chunk = tiles == 1 ? groups : CHUNK;
  int32_t sums[FEW][PANEL];
  memset(sums, 0, rows * sizeof(sums[0]));
  for (int64_t from = 0; from < groups; from += chunk) {
    const int64_t to = groups - from < chunk ? groups : from + chunk;
    for (int t = 0, row = 0, next; t < tiles; t++, row = next) {
      next = rows * (t + 1) / tiles;
      if (t == 0)
        add<true>(s, row, next - row, from, to, sums + row);
      else
        add<false>(s, row, next - row, from, to, sums + row);
    }
  }
  store(s, 0, rows, sums);
}

extern "C" void gemm_avx512vnni(const Strip *s) {
  const int64_t groups = (s->k + GROUP - 1) / GROUP;
  if (s->rows <= FEW)
    return few(s, groups);
  for (int64_t row = 0; row < s->rows; row += MOST_ROWS) {
    const int rows = s->rows - row < MOST_ROWS ? (int)(s->rows - row) : MOST_ROWS;
    int32_t sums[MOST_ROWS][PANEL] = {};
    add<false>(s, row, rows, 0, groups, sums);
    store(s, row, rows, sums);
  }
}

ROW_KERNELS(avx512vnni)
