// AMX's instructions by names that amx_emulated.h has too, and the shapes of its eight tiles.
#pragma once

#include <stdint.h>

#ifdef AMX_EMULATED
#include "amx_emulated.h"
#else
#include <immintrin.h>
#define amx_configure _tile_loadconfig
#define amx_zero _tile_zero
#define amx_load _tile_loadd
#define amx_store _tile_stored
#define amx_dot _tile_dpbusd
#define amx_release _tile_release
#endif

enum { ROWS = 16, BYTES = 64 }; // of a tile, at most

// rows: of each tile, all of BYTES bytes.
static void amx_shape(const int rows[8]) {
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } c = {};
  c.palette = 1;
  for (int t = 0; t < 8; t++) {
    c.bytes[t] = BYTES;
    c.rows[t] = (uint8_t)rows[t];
  }
  amx_configure(&c);
}
