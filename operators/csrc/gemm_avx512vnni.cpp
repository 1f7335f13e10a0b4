// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprfchw -mprefer-vector-width=512
// AVX-512 with VNNI: tiles of 6 rows by 64 columns, 24 registers of sums, B streamed from the packed panel.
#include <immintrin.h>

#include "kernels.h"
#include "rows_avx512.h"
#include "sums_avx512vnni.h"

enum { FEW = 18 }; // rows up to which the weights may come from memory more slowly than they are multiplied

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

// The sums start from what the zero points take away, sum - zero * weight_sum, in wrapping arithmetic.
template <int ROWS>
static inline void start(__m512i (&c)[ROWS][VECTORS], const Strip *s, int64_t row) {
  UNROLL
  for (int j = 0; j < VECTORS; j++) {
    const __m512i weight_sum = _mm512_loadu_si512(s->weight_sum + j * LANES);
    UNROLL
    for (int i = 0; i < ROWS; i++)
      c[i][j] = _mm512_mullo_epi32(_mm512_set1_epi32(-s->zero_point[row + i]), weight_sum);
  }
}

// y of a whole panel, straight from the registers.
template <int ROWS>
static inline void store_whole(const __m512i (&c)[ROWS][VECTORS], const Strip *s, int64_t row) {
  UNROLL
  for (int j = 0; j < VECTORS; j++) {
    const __m512 weight_scale = _mm512_loadu_ps(s->weight_scale + j * LANES);
    const __m512 bias = _mm512_loadu_ps(s->bias + j * LANES);
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(s->scale[row + i]), weight_scale);
      const __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(c[i][j]), scale), bias);
      _mm512_storeu_ps(s->y + (row + i) * s->out_stride + j * LANES, y);
    }
  }
}

template <int ROWS, int FETCH>
static void whole_tile(const Strip *s, int64_t row) {
  __m512i c[ROWS][VECTORS];
  start<ROWS>(c, s, row);
  const int64_t groups = groups_of(s);
  const int8_t *next = s->next + row / MOST_ROWS * groups * LINE;
  const int64_t done = s->near ? add_first_groups<ROWS, FETCH>(c, s, row, next) : 0;
  add_groups<ROWS, FETCH>(c, s, row, done, groups, next + done * LINE);
  store_whole<ROWS>(c, s, row);
}

// Adds to sums in memory.
template <int ROWS, int FETCH>
static void part(const Strip *s, int64_t row, int64_t from, int64_t to, int32_t (*sums)[PANEL]) {
  __m512i c[ROWS][VECTORS];
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    c[i][j] = _mm512_loadu_si512(sums[i] + j * LANES);
  add_groups<ROWS, FETCH>(c, s, row, from, to);
  UNROLL
  for (int i = 0; i < ROWS; i++)
    UNROLL
  for (int j = 0; j < VECTORS; j++)
    _mm512_storeu_si512(sums[i] + j * LANES, c[i][j]);
}

typedef void (*Part)(const Strip *, int64_t row, int64_t from, int64_t to, int32_t (*)[PANEL]);

#define OF_ROWS(fetch)                                                                                       \
  {nullptr, part<1, fetch>, part<2, fetch>, part<3, fetch>, part<4, fetch>, part<5, fetch>, part<6, fetch>}

// By the number of tiles, the tile, and its rows: the tiles of a chunk ask for the next one's lines together,
// so that memory is at work all of the time.
static const Part PARTS_OF[FEW / MOST_ROWS][FEW / MOST_ROWS][MOST_ROWS + 1] = {
    {OF_ROWS(OWN)}, {OF_ROWS(0b0011), OF_ROWS(0b1100)}, {OF_ROWS(0b0001), OF_ROWS(0b0010), OF_ROWS(0b1100)}};

// Up to FEW rows, in tiles as equal as can be; any number of columns, sums as well as y, with or without
// bias. The weights of a chunk of groups are read once, for all rows.
static void few(const Strip *s, int64_t row, int rows) {
  const int tiles = (rows + MOST_ROWS - 1) / MOST_ROWS;
  const int64_t groups = groups_of(s), chunk = tiles == 1 ? groups : CHUNK;
  int32_t sums[FEW][PANEL];
  memset(sums, 0, rows * sizeof(sums[0]));
  for (int64_t from = 0; from < groups; from += chunk) {
    const int64_t to = groups - from < chunk ? groups : from + chunk;
    for (int t = 0, at = 0, next; t < tiles; t++, at = next) {
      next = rows * (t + 1) / tiles;
      PARTS_OF[tiles - 1][t][next - at](s, row + at, from, to, sums + at);
    }
  }
  store(s, row, rows, sums);
}

extern "C" void gemm_avx512vnni(const Strip *s) {
  static void (*const whole[])(const Strip *, int64_t) = {nullptr,
                                                          whole_tile<1, NOTHING>,
                                                          whole_tile<2, NOTHING>,
                                                          whole_tile<3, NOTHING>,
                                                          whole_tile<4, NOTHING>,
                                                          whole_tile<5, NOTHING>,
                                                          whole_tile<6, NOTHING>};
  const bool straight = s->columns == PANEL && s->y && s->bias && !s->acc && s->rows > FEW;
  const int step = s->rows > FEW ? (int)MOST_ROWS : (int)FEW;
  for (int64_t row = 0; row < s->rows; row += step) {
    const int rows = s->rows - row < step ? (int)(s->rows - row) : step;
    if (straight && row < QUARTERS * MOST_ROWS && rows == MOST_ROWS && s->next)
      whole_tile<MOST_ROWS, NEXT>(s, row);
    else if (straight)
      whole[rows](s, row);
    else
      few(s, row, rows);
  }
}

ROW_KERNELS_AVX512(avx512vnni)
