// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
// AVX-512 for floats. bfloat16 and int8 weights are widened to float on the way.
#include <immintrin.h>

#include "float_avx512.h"

namespace {

// As intrinsics, g++ 12 keeps part of the sums on the stack.
inline void fma(__m512 &sum, __m512 a, __m512 b) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

struct Single : Wide {
  template <int ROWS, int VECTORS>
  static inline void step(Vec (&c)[ROWS][VECTORS], const char *w, const char *x, int64_t stride) {
    __m512 b[VECTORS];
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      b[j] = _mm512_loadu_ps(w + j * LANES * UNIT);
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      const __m512 a = _mm512_castsi512_ps(broadcast_unit(x + i * stride));
      UNROLL
      for (int j = 0; j < VECTORS; j++)
        fma(c[i][j], a, b[j]);
    }
  }
};

inline __m512 first_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
inline __m512 second_of(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

struct Pairs : Wide {
  template <int ROWS, int VECTORS>
  static inline void step(Vec (&c)[ROWS][VECTORS], const char *w, const char *x, int64_t stride) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      __m512 b[VECTORS];
      UNROLL
      for (int j = 0; j < VECTORS; j++) {
        const __m512i pairs = _mm512_loadu_si512(w + j * LANES * UNIT);
        b[j] = half ? second_of(pairs) : first_of(pairs);
      }
      UNROLL
      for (int i = 0; i < ROWS; i++) {
        const __m512i pairs = broadcast_unit(x + i * stride);
        const __m512 a = half ? second_of(pairs) : first_of(pairs);
        UNROLL
        for (int j = 0; j < VECTORS; j++)
          fma(c[i][j], a, b[j]);
      }
    }
  }
};

struct Bytes : Wide {
  enum {
    WEIGHT = 1,
    AHEAD = 2048
  }; // bytes: brings 4 rows from 16 to 24 GB/s, with one row 31 of 41 are read
  template <int ROWS, int VECTORS>
  static inline void step(Vec (&c)[ROWS][VECTORS], const char *w, const char *x, int64_t stride) {
    _mm_prefetch(w + AHEAD, _MM_HINT_T0);
    __m512 b[VECTORS];
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      b[j] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(w + j * LANES))));
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      const __m512 a = _mm512_castsi512_ps(broadcast_unit(x + i * stride));
      UNROLL
      for (int j = 0; j < VECTORS; j++)
        fma(c[i][j], a, b[j]);
    }
  }
};

} // namespace

extern "C" void gemm_f32_avx512(const FloatStrip *s) { multiply_wide<Single>(s); }
extern "C" void gemm_bf16_avx512(const FloatStrip *s) { multiply_wide<Pairs>(s); }
extern "C" void gemm_w8_avx512(const FloatStrip *s) { multiply_wide<Bytes>(s); }
extern "C" void convert_avx512(const Convert *c) { convert_rows(c); }
