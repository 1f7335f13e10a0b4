// build: x86_64 -mamx-tile -mamx-int8 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
// AMX INT8: tiles of 16 rows by 16 columns, 64 products deep; two by two of them at a time. NEVER RUN ON A
// CPU WITH AMX so far: compiled, and its indices tested with amx_emulated.h in place of the instructions.
//
// A packed panel is a matrix of tiles as it stands: 16 groups of k are 16 rows, 256 bytes apart, and 16
// columns of 4 bytes are the 64 bytes of a row.
#include "amx.h"
#include "kernels.h"
#ifdef AMX_EMULATED // on any CPU
#include "rows.h"
#define ROW_KERNELS_AVX512 ROW_KERNELS
#else
#include "rows_avx512.h"
#endif

enum { LANES = 16, LINE = PANEL * GROUP }; // LINE: bytes from one group of a panel to the next

// Tiles 0 to 3 hold the sums (upper left, upper right, lower left, lower right), 4 and 5 the rows, 6 and 7
// the weights.
static void configure(int upper, int lower) {
  const int rows[8] = {upper, upper, lower, lower, upper, lower, ROWS, ROWS};
  amx_shape(rows);
}

// One step in k: up to 64 bytes of up to 32 rows, times 32 columns.
static inline void step(const uint8_t *q, int64_t stride, int both, const int8_t *w) {
  amx_load(6, w, LINE);
  amx_load(7, w + LANES * GROUP, LINE);
  amx_load(4, q, stride);
  amx_dot(0, 4, 6);
  amx_dot(1, 4, 7);
  if (!both)
    return;
  amx_load(5, q + ROWS * stride, stride);
  amx_dot(2, 5, 6);
  amx_dot(3, 5, 7);
}

typedef struct { // what is left of k after whole steps, padded with zeros
  uint8_t q[2 * ROWS][BYTES];
  int8_t w[BYTES / GROUP][LINE];
} Last;

static void multiply(const Strip *s, int64_t row, int both, const Last *last, int first,
                     int32_t (*sums)[PANEL]) {
  amx_zero(0);
  amx_zero(1);
  if (both) {
    amx_zero(2);
    amx_zero(3);
  }
  const int64_t whole = s->k / BYTES;
  const uint8_t *q = s->q + row * s->q_stride;
  const int8_t *w = s->panel + first * GROUP;
  for (int64_t at = 0; at < whole; at++)
    step(q + at * BYTES, s->q_stride, both, w + at * (BYTES / GROUP) * LINE);
  if (s->k % BYTES)
    step(last->q[0], BYTES, both, last->w[0] + first * GROUP);
  const int64_t line = sizeof(sums[0]);
  amx_store(0, sums[0] + first, line);
  amx_store(1, sums[0] + first + LANES, line);
  if (!both)
    return;
  amx_store(2, sums[ROWS] + first, line);
  amx_store(3, sums[ROWS] + first + LANES, line);
}

extern "C" void gemm_amx(const Strip *s) {
  const int64_t left = s->k % BYTES, whole = s->k - left;
  int32_t sums[2 * ROWS][PANEL];
  Last last = {};
  memcpy(last.w, s->panel + whole * PANEL, (left + GROUP - 1) / GROUP * LINE);
  for (int64_t row = 0; row < s->rows; row += 2 * ROWS) {
    const int rows = s->rows - row < 2 * ROWS ? (int)(s->rows - row) : 2 * ROWS, both = rows > ROWS;
    if (row == 0 || rows < 2 * ROWS)
      configure(both ? ROWS : rows, both ? rows - ROWS : ROWS);
    for (int i = 0; i < rows; i++)
      memcpy(last.q[i], s->q + (row + i) * s->q_stride + whole, left);
    for (int first = 0; first < s->columns; first += 2 * LANES)
      multiply(s, row, both, &last, first, sums);
    for (int i = 0; i < rows; i++)
      store_row(s, row + i, sums[i]);
  }
  amx_release();
}

ROW_KERNELS_AVX512(amx)
