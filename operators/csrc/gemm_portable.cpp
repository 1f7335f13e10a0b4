// Plain C++ for any CPU: what the others are measured against, and what runs where they cannot.
#include "kernels.h"
#include "rows.h"

extern "C" void gemm_portable(const Strip *s) {
  const int64_t groups = (s->k + GROUP - 1) / GROUP;
  for (int64_t row = 0; row < s->rows; row++) {
    int32_t sums[PANEL] = {0};
    for (int64_t g = 0; g < groups; g++) {
      const uint32_t word = load_group(s->q + row * s->q_stride, s->k, g);
      const int32_t a0 = word & 255, a1 = word >> 8 & 255, a2 = word >> 16 & 255, a3 = word >> 24;
      const int8_t *w = s->panel + g * PANEL * GROUP;
      for (int n = 0; n < PANEL; n++, w += GROUP)
        sums[n] += a0 * w[0] + a1 * w[1] + a2 * w[2] + a3 * w[3];
    }
    store_row(s, row, sums);
  }
}

ROW_KERNELS(portable)
