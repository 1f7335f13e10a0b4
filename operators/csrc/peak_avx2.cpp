// build: x86_64 -mavx2 -mfma
// AVX2 has no 8-bit dot product that cannot saturate: its exact one multiplies pairs of 16 bits and adds.
#include <immintrin.h>

#include "peak.h"

static inline void dot_int(__m256i &sum, __m256i a, __m256i b) {
  __m256i pairs;
  asm volatile("vpmaddwd %2, %1, %0" : "=x"(pairs) : "x"(a), "x"(b));
  asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(pairs));
}

static inline void dot_float(__m256 &sum, __m256 a, __m256 b) {
  asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}

extern "C" int64_t peak_int8_avx2(int64_t loops) {
  PEAK_LOOP(__m256i, _mm256_setzero_si256(), dot_int, 16, loops)
}

extern "C" int64_t peak_fp32_avx2(int64_t loops) {
  PEAK_LOOP(__m256, _mm256_setzero_ps(), dot_float, 8, loops)
}
