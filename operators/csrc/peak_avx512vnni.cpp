// build: x86_64 -mavx512f -mavx512vnni
#include <immintrin.h>

#include "peak.h"

static inline void dot(__m512i &sum, __m512i a, __m512i b) {
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

extern "C" int64_t peak_int8_avx512vnni(int64_t loops) {
  PEAK_LOOP(__m512i, _mm512_setzero_si512(), dot, 64, loops)
}
