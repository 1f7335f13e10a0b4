// build: x86_64 -mavx512f -mavx512bf16
#include <immintrin.h>

#include "peak.h"

static inline void dot(__m512 &sum, __m512 a, __m512 b) {
  asm volatile("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

extern "C" int64_t peak_bf16_avx512bf16(int64_t loops) {
  PEAK_LOOP(__m512, _mm512_setzero_ps(), dot, 32, loops)
}
