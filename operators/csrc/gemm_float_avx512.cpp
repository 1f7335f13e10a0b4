// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
// AVX-512 for floats. bfloat16 and int8 weights are widened to float on the way.
#include <immintrin.h>

#include "float_avx512.h"

namespace {

struct Single : Wide {
  typedef __m512 Values;
  static inline Values weights(const char *w, int) { return _mm512_loadu_ps(w); }
  static inline Values value(const char *x, int) { return _mm512_castsi512_ps(broadcast_unit(x)); }
  static inline void fma(Vec &sum, Values a, Values b) { // as an intrinsic, g++ 12 keeps sums on the stack
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  }
};

inline __m512 half_of(__m512i pairs, int half) {
  const __m512i odd = _mm512_set1_epi32((int)0xffff0000);
  return _mm512_castsi512_ps(half ? _mm512_and_si512(pairs, odd) : _mm512_slli_epi32(pairs, 16));
}

struct Pairs : Single {
  enum { PARTS = 2 };
  static inline Values weights(const char *w, int half) { return half_of(_mm512_loadu_si512(w), half); }
  static inline Values value(const char *x, int half) { return half_of(broadcast_unit(x), half); }
};

struct Bytes : Single {
  enum { WEIGHT = 1, AHEAD = 8192 }; // bytes: 4 rows go from 16 to 27 GB/s, one from 30 to 38
  static inline void ahead(const char *w) { _mm_prefetch(w + AHEAD, _MM_HINT_T0); }
  static inline Values weights(const char *w, int) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)w)));
  }
};

} // namespace

extern "C" void gemm_f32_avx512(const FloatStrip *s) { multiply_wide<Single>(s); }
extern "C" void gemm_bf16_avx512(const FloatStrip *s) { multiply_wide<Pairs>(s); }
extern "C" void gemm_w8_avx512(const FloatStrip *s) { multiply_wide<Bytes>(s); }
extern "C" void convert_avx512(const Convert *c) { convert_rows(c); }
