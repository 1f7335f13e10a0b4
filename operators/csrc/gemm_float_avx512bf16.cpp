// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mprefer-vector-width=512
// AVX-512 with BF16: vdpbf16ps multiplies pairs of bfloat16 and adds them in float32 (it takes subnormal
// numbers for zeros). float32 is multiplied as everywhere with AVX-512.
#include <immintrin.h>

#include "float_avx512.h"

namespace {

struct Dot : Wide {
  typedef __m512i Values;
  static inline Values weights(const char *w, int) { return _mm512_loadu_si512(w); }
  static inline Values value(const char *x, int) { return broadcast_unit(x); }
  static inline void fma(Vec &sum, Values a, Values b) { // as an intrinsic, g++ 12 keeps sums on the stack
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  }
};

} // namespace

extern "C" void gemm_f32_avx512(const FloatStrip *);
extern "C" void gemm_w8_avx512(const FloatStrip *);
extern "C" void gemm_f32_avx512bf16(const FloatStrip *s) { gemm_f32_avx512(s); }
extern "C" void gemm_bf16_avx512bf16(const FloatStrip *s) { multiply_wide<Dot>(s); }
extern "C" void gemm_w8_avx512bf16(const FloatStrip *s) { gemm_w8_avx512(s); }
extern "C" void convert_avx512bf16(const Convert *c) { convert_rows(c); }
