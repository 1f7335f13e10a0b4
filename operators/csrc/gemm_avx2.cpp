// build: x86_64 -mavx2 -mfma
// AVX2, exact: bytes are widened to 16 bits and multiplied with vpmaddwd. vpmaddubsw would need half of the
// instructions, but saturates its 16-bit sums. Tiles of 6 rows by 8 columns; the rows are widened once for
// all columns, the weights on the fly.
#include <immintrin.h>

#include "kernels.h"
#include "rows.h"
#include "tiles_avx2.h"

#define UNROLL _Pragma("GCC unroll 8")

enum {
  LANES = 4,  // columns of one register of sums, each in two halves: [c0 c0 c1 c1 | c2 c2 c3 c3]
  DEPTH = 128 // groups whose rows are widened at a time: 6 KB
};

// Left to itself, g++ 12 multiplies all pairs before it adds any, and keeps the sums in memory.
static inline void dot(__m256i &sum, __m256i a, __m256i b) {
  __m256i product;
  asm("vpmaddwd %3, %2, %0\n\tvpaddd %0, %1, %1" : "=&x"(product), "+x"(sum) : "x"(a), "x"(b));
}

// `groups` groups of one row from `group` on as 16 bits; zeros beyond the row's end.
static inline void widen(const uint8_t *q, int64_t k, int64_t group, int groups, int16_t *wide) {
  const int64_t from = group * GROUP, have = k - from < groups * GROUP ? k - from : groups * GROUP;
  int64_t at = 0;
  for (; at + 16 <= have; at += 16)
    _mm256_storeu_si256((__m256i *)(wide + at),
                        _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(q + from + at))));
  for (; at < groups * GROUP; at++)
    wide[at] = at < have ? q[from + at] : 0;
}

// Each register of sums holds two halves for each of 4 columns; two registers give columns 0..7 in order.
static inline __m256i join(__m256i left, __m256i right) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(left, right), 0xd8);
}

template <int ROWS, int VECTORS>
static inline void part(const int8_t *w, int groups, const int16_t (*wide)[DEPTH * GROUP],
                        int32_t (*sums)[PANEL], int first) {
  __m256i c[ROWS][VECTORS];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    c[i][j] = _mm256_setzero_si256();
  for (int g = 0; g < groups; g++, w += PANEL * GROUP) {
    __m256i b[VECTORS];
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      b[j] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + j * LANES * GROUP)));
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      int64_t four;
      memcpy(&four, wide[i] + g * GROUP, sizeof(four));
      const __m256i a = _mm256_set1_epi64x(four);
      UNROLL
      for (int j = 0; j < VECTORS; j++)
        dot(c[i][j], a, b[j]);
    }
  }
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j += 2) {
    __m256i *to = (__m256i *)(sums[i] + first + j * LANES);
    _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), join(c[i][j], c[i][j + 1])));
  }
}

template <int ROWS, int VECTORS>
static void tile(const Strip *s, int64_t row) {
  int32_t sums[ROWS][PANEL] = {};
  int16_t wide[ROWS][DEPTH * GROUP];
  const int64_t groups = (s->k + GROUP - 1) / GROUP;
  for (int64_t group = 0; group < groups; group += DEPTH) {
    const int depth = groups - group < DEPTH ? (int)(groups - group) : DEPTH;
    for (int i = 0; i < ROWS; i++)
      widen(s->q + (row + i) * s->q_stride, s->k, group, depth, wide[i]);
    for (int first = 0; first < s->columns; first += LANES * VECTORS)
      part<ROWS, VECTORS>(s->panel + (group * PANEL + first) * GROUP, depth, wide, sums, first);
  }
  for (int i = 0; i < ROWS; i++)
    store_row(s, row + i, sums[i]);
}

GEMM_OF_TILES(gemm_avx2)

ROW_KERNELS(avx2)
