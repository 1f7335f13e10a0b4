// Registers of 16 numbers as rows of a matrix.
#pragma once

#include <immintrin.h>

// 16 x 16 transpose of 32-bit elements: of 4 x 4 elements in each quarter of registers, then of 4 x 4
// quarters.
static inline void transpose(__m512i (&z)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(z[i], z[i + 1]), b = _mm512_unpackhi_epi32(z[i], z[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(z[i + 2], z[i + 3]),
                  d = _mm512_unpackhi_epi32(z[i + 2], z[i + 3]);
    z[i] = _mm512_unpacklo_epi64(a, c), z[i + 1] = _mm512_unpackhi_epi64(a, c);
    z[i + 2] = _mm512_unpacklo_epi64(b, d), z[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; i++) {
    const __m512i a = _mm512_shuffle_i32x4(z[i], z[i + 4], 0x44),
                  b = _mm512_shuffle_i32x4(z[i], z[i + 4], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(z[i + 8], z[i + 12], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(z[i + 8], z[i + 12], 0xee);
    z[i] = _mm512_shuffle_i32x4(a, c, 0x88), z[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
    z[i + 8] = _mm512_shuffle_i32x4(b, d, 0x88), z[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}
