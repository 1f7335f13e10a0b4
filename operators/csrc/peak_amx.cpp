// build: x86_64 -mamx-tile -mamx-int8
// NEVER RUN ON A CPU WITH AMX so far, as gemm_amx.cpp.
#include "amx.h"
#include "peak.h"

enum { MULTIPLY_ADDS = ROWS * ROWS * BYTES };

// Six sums, where a unit with 16 cycles for each and a latency of 52 needs four (Intel's optimization manual,
// on AMX).
extern "C" int64_t peak_int8_amx(int64_t loops) {
  const int rows[8] = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS};
  amx_shape(rows);
  amx_zero(6);
  amx_zero(7);
  for (int64_t i = 0; i < loops * STEPS * SUMS / 6; i++) {
    amx_dot(0, 6, 7);
    amx_dot(1, 6, 7);
    amx_dot(2, 6, 7);
    amx_dot(3, 6, 7);
    amx_dot(4, 6, 7);
    amx_dot(5, 6, 7);
  }
  amx_release();
  return loops * SUMS * STEPS * MULTIPLY_ADDS;
}
