// 512-bit registers: tiles of 6 rows by 64 columns.
#pragma once

#include <immintrin.h>

#include "float_tile.h"

namespace { // its own in each file: a copy compiled for more could be the one that the linker keeps

struct Wide {
  typedef __m512 Vec;
  enum { LANES = 16, WEIGHT = UNIT, PARTS = 1 };
  static inline Vec zero() { return _mm512_setzero_ps(); }
  static inline void add(float *to, Vec v) { _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), v)); }
  static inline void ahead(const char *) {}
};

template <class A>
static inline void multiply_wide(const FloatStrip *s) {
  static const Tile tiles[] = {nullptr,       tile<A, 1, 4>, tile<A, 2, 4>, tile<A, 3, 4>,
                               tile<A, 4, 4>, tile<A, 5, 4>, tile<A, 6, 4>};
  static const Tile slim[] = {nullptr,       tile<A, 1, 1>, tile<A, 2, 1>, tile<A, 3, 1>,
                              tile<A, 4, 1>, tile<A, 5, 1>, tile<A, 6, 1>};
  multiply(s, s->columns <= A::LANES ? slim : tiles, 6); // heads have a few columns
}

static inline __m512i broadcast_unit(const char *x) {
  int32_t unit;
  memcpy(&unit, x, UNIT);
  return _mm512_set1_epi32(unit);
}

} // namespace
