// The AMX instructions that gemm_amx.cpp uses, in plain C, after Intel's description of them: tiles of up to
// 16 rows of 64 bytes. For tests of its indices on CPUs without AMX. What the CPU would fault on is counted.
#pragma once

#include "kernels.h"

static struct {
  uint16_t bytes[8]; // of a row of each tile
  uint8_t rows[8];
  uint8_t data[8][16][64];
} amx;

extern "C" {
inline int amx_faults = 0; // of all files together
}

static void amx_configure(const void *configuration) {
  const uint8_t *c = (const uint8_t *)configuration;
  memset(&amx, 0, sizeof(amx)); // as LDTILECFG does
  memcpy(amx.bytes, c + 16, sizeof(amx.bytes));
  memcpy(amx.rows, c + 48, sizeof(amx.rows));
  amx_faults += c[0] != 1 || c[1] != 0;
  for (int t = 0; t < 8; t++)
    amx_faults += amx.rows[t] > 16 || amx.bytes[t] > 64 || !amx.rows[t] != !amx.bytes[t];
}

static void amx_zero(int t) {
  amx_faults += !amx.rows[t];
  memset(amx.data[t], 0, sizeof(amx.data[t]));
}

static void amx_load(int t, const void *from, int64_t stride) {
  amx_faults += !amx.rows[t];
  memset(amx.data[t], 0, sizeof(amx.data[t]));
  for (int i = 0; i < amx.rows[t]; i++)
    memcpy(amx.data[t][i], (const uint8_t *)from + i * stride, amx.bytes[t]);
}

static void amx_store(int t, void *to, int64_t stride) {
  amx_faults += !amx.rows[t];
  for (int i = 0; i < amx.rows[t]; i++)
    memcpy((uint8_t *)to + i * stride, amx.data[t][i], amx.bytes[t]);
}

static void amx_dot(int c, int a, int b) { // unsigned bytes of a times signed bytes of b
  amx_faults += amx.rows[c] != amx.rows[a] || amx.bytes[c] != amx.bytes[b] || amx.bytes[a] != 4 * amx.rows[b];
  for (int m = 0; m < amx.rows[c]; m++)
    for (int n = 0; n < amx.bytes[c] / 4; n++) {
      int32_t sum;
      memcpy(&sum, amx.data[c][m] + 4 * n, 4);
      for (int k = 0; k < amx.rows[b]; k++)
        for (int i = 0; i < 4; i++)
          sum += amx.data[a][m][4 * k + i] * (int8_t)amx.data[b][k][4 * n + i];
      memcpy(amx.data[c][m] + 4 * n, &sum, 4);
    }
}

static void amx_release(void) { memset(&amx, 0, sizeof(amx)); }
