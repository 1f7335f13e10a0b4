// build: x86_64 -mavx2 -mfma
// AVX2, exact: bytes are widened to 16 bits and multiplied with vpmaddwd. vpmaddubsw would need half of the
// instructions, but saturates its 16-bit sums.
#include <immintrin.h>

#include "kernels.h"
#include "rows.h"

enum { STEP = 16 }; // columns at a time: 4 registers of sums for each row

// Each register of sums holds two halves for each of 4 columns: [c0 c0 c1 c1 | c2 c2 c3 c3].
static inline __m256i join(__m256i left, __m256i right) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(left, right), 0xd8); // columns 0..7 in order
}

template <int ROWS>
static inline void step(const Strip *s, int64_t row, int first, int32_t (*sums)[PANEL]) {
  const int64_t groups = (s->k + GROUP - 1) / GROUP, whole = s->k / GROUP;
  __m256i c[ROWS][4];
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < 4; j++)
      c[i][j] = _mm256_setzero_si256();
  for (int64_t g = 0; g < groups; g++) {
    const int8_t *w = s->panel + (g * PANEL + first) * GROUP;
    __m256i a[ROWS]; // four bytes of a row as 16 bits, four times over
    for (int i = 0; i < ROWS; i++) {
      const uint8_t *q = s->q + (row + i) * s->q_stride;
      const uint32_t word = g < whole
                                ? *(const uint32_t __attribute__((aligned(1), may_alias)) *)(q + g * GROUP)
                                : load_group(q, s->k, g);
      a[i] = _mm256_cvtepu8_epi16(_mm_set1_epi32((int)word));
    }
    for (int j = 0; j < 4; j++) {
      const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16 * j)));
      for (int i = 0; i < ROWS; i++)
        c[i][j] = _mm256_add_epi32(c[i][j], _mm256_madd_epi16(a[i], b));
    }
  }
  for (int i = 0; i < ROWS; i++) {
    _mm256_storeu_si256((__m256i *)(sums[i] + first), join(c[i][0], c[i][1]));
    _mm256_storeu_si256((__m256i *)(sums[i] + first + 8), join(c[i][2], c[i][3]));
  }
}

template <int ROWS>
static void tile(const Strip *s, int64_t row) {
  int32_t sums[ROWS][PANEL];
  for (int first = 0; first < s->columns; first += STEP)
    step<ROWS>(s, row, first, sums);
  for (int i = 0; i < ROWS; i++)
    store_row(s, row + i, sums[i]);
}

extern "C" void gemm_avx2(const Strip *s) {
  int64_t row = 0;
  for (; row + 2 <= s->rows; row += 2)
    tile<2>(s, row);
  if (row < s->rows)
    tile<1>(s, row);
}

ROW_KERNELS(avx2)
