// build: x86_64 -mavx2 -mavxvnni
#include <immintrin.h>

#include "peak.h"

static inline void dot(__m256i &sum, __m256i a, __m256i b) {
  asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b)); // the encoding without AVX-512
}

extern "C" int64_t peak_int8_avxvnni(int64_t loops) {
  PEAK_LOOP(__m256i, _mm256_setzero_si256(), dot, 32, loops)
}
