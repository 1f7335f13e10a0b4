// build: x86_64 -mavx2 -mfma -mavxvnni
// AVX-VNNI: dot products of bytes in 256-bit registers, for CPUs without AVX-512. Twelve registers of sums: 6
// rows by 16 columns, and wider with fewer rows, so that there are always enough sums to hide the latency of
// one.
#include <immintrin.h>

#include "kernels.h"
#include "rows.h"
#include "tiles_avx2.h"

#define UNROLL _Pragma("GCC unroll 8")

enum { LANES = 8 };

static inline void dot(__m256i &sum, __m256i a, __m256i b) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b)); // the encoding that needs no AVX-512
}

// The four bytes of a group times VECTORS registers of 8 columns each, for ROWS rows.
template <int ROWS, int VECTORS>
static inline void add_group(__m256i (&c)[ROWS][VECTORS], const int8_t *w, const uint8_t *q, int64_t stride) {
  __m256i b[VECTORS];
  UNROLL
  for (int j = 0; j < VECTORS; j++)
    b[j] = _mm256_loadu_si256((const __m256i *)(w + j * LANES * GROUP));
  UNROLL
  for (int i = 0; i < ROWS; i++) {
    int32_t word;
    memcpy(&word, q + i * stride, GROUP);
    const __m256i a = _mm256_set1_epi32(word);
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      dot(c[i][j], a, b[j]);
  }
}

// Columns first .. first + 8 * VECTORS of the panel.
template <int ROWS, int VECTORS>
static inline void part(const Strip *s, int64_t row, int first, const uint32_t *last,
                        int32_t (*sums)[PANEL]) {
  __m256i c[ROWS][VECTORS];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    c[i][j] = _mm256_setzero_si256();
  const int64_t whole = s->k / GROUP;
  const uint8_t *q = s->q + row * s->q_stride;
  const int8_t *w = s->panel + first * GROUP;
  for (int64_t g = 0; g < whole; g++, q += GROUP, w += PANEL * GROUP)
    add_group<ROWS, VECTORS>(c, w, q, s->q_stride);
  if (s->k % GROUP) // the last group from a padded copy: nothing beyond a row is read
    add_group<ROWS, VECTORS>(c, w, (const uint8_t *)last, GROUP);
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    _mm256_storeu_si256((__m256i *)(sums[i] + first + j * LANES), c[i][j]);
}

template <int ROWS, int VECTORS>
static void tile(const Strip *s, int64_t row) {
  int32_t sums[ROWS][PANEL];
  uint32_t last[ROWS];
  for (int i = 0; i < ROWS; i++)
    last[i] = load_group(s->q + (row + i) * s->q_stride, s->k, s->k / GROUP);
  for (int first = 0; first < s->columns; first += LANES * VECTORS)
    part<ROWS, VECTORS>(s, row, first, last, sums);
  for (int i = 0; i < ROWS; i++)
    store_row(s, row + i, sums[i]);
}

GEMM_OF_TILES(gemm_avxvnni)

ROW_KERNELS(avxvnni)
