// build: x86_64 -mavx2 -mfma
// AVX2 with FMA for floats: tiles of 6 rows by 16 columns, 4 rows of bfloat16, which is widened to float on
// the way, as int8 weights are.
#include <immintrin.h>

#include "float_tile.h"

namespace {

inline __m256i broadcast_unit(const char *x) {
  int32_t unit;
  memcpy(&unit, x, UNIT);
  return _mm256_set1_epi32(unit);
}

struct Single {
  typedef __m256 Vec;
  typedef __m256 Values;
  enum { LANES = 8, WEIGHT = UNIT, PARTS = 1 };
  static inline Vec zero() { return _mm256_setzero_ps(); }
  static inline void add(float *to, Vec v) { _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), v)); }
  static inline void ahead(const char *) {}
  static inline Values weights(const char *w, int) { return _mm256_loadu_ps((const float *)w); }
  static inline Values value(const char *x, int) { return _mm256_castsi256_ps(broadcast_unit(x)); }
  static inline void fma(Vec &sum, Values a, Values b) {
    asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  }
};

inline __m256 half_of(__m256i pairs, int half) {
  const __m256i odd = _mm256_set1_epi32((int)0xffff0000);
  return _mm256_castsi256_ps(half ? _mm256_and_si256(pairs, odd) : _mm256_slli_epi32(pairs, 16));
}

struct Pairs : Single {
  enum { PARTS = 2 };
  static inline Values weights(const char *w, int half) {
    return half_of(_mm256_loadu_si256((const __m256i *)w), half);
  }
  static inline Values value(const char *x, int half) { return half_of(broadcast_unit(x), half); }
};

struct Bytes : Single {
  enum { WEIGHT = 1 };
  static inline Values weights(const char *w, int) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)w)));
  }
};

template <class A, int MOST_ROWS>
void multiply_narrow(const FloatStrip *s) { // few rows: wider, so that enough sums are under way at once
  static const Tile tiles[] = {nullptr,       tile<A, 1, 8>, tile<A, 2, 4>, tile<A, 3, 2>,
                               tile<A, 4, 2>, tile<A, 5, 2>, tile<A, 6, 2>};
  multiply(s, tiles, MOST_ROWS);
}

} // namespace

extern "C" void gemm_f32_avx2(const FloatStrip *s) { multiply_narrow<Single, 6>(s); }
extern "C" void gemm_bf16_avx2(const FloatStrip *s) {
  multiply_narrow<Pairs, 4>(s);
} // g++ 12 would spill sums with 5
extern "C" void gemm_w8_avx2(const FloatStrip *s) { multiply_narrow<Bytes, 6>(s); }
extern "C" void convert_avx2(const Convert *c) { convert_rows(c); }
