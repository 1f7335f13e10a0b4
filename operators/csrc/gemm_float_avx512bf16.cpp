// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mprefer-vector-width=512
// AVX-512 with BF16: vdpbf16ps multiplies pairs of bfloat16 and adds them in float32 (it takes subnormal
// numbers for zeros). float32 is multiplied as everywhere with AVX-512.
#include <immintrin.h>

#include "float_avx512.h"

namespace {

struct Dot : Wide {
  template <int ROWS, int VECTORS>
  static inline void step(Vec (&c)[ROWS][VECTORS], const char *w, const char *x, int64_t stride) {
    __m512i b[VECTORS];
    UNROLL
    for (int j = 0; j < VECTORS; j++)
      b[j] = _mm512_loadu_si512(w + j * LANES * UNIT);
    UNROLL
    for (int i = 0; i < ROWS; i++) {
      const __m512i a = broadcast_unit(x + i * stride);
      UNROLL
      for (int j = 0; j < VECTORS; j++) // as an intrinsic, g++ 12 keeps part of the sums on the stack
        asm("vdpbf16ps %2, %1, %0" : "+v"(c[i][j]) : "v"(a), "v"(b[j]));
    }
  }
};

} // namespace

extern "C" void gemm_f32_avx512(const FloatStrip *);
extern "C" void gemm_w8_avx512(const FloatStrip *);
extern "C" void gemm_f32_avx512bf16(const FloatStrip *s) { gemm_f32_avx512(s); }
extern "C" void gemm_bf16_avx512bf16(const FloatStrip *s) { multiply_wide<Dot>(s); }
extern "C" void gemm_w8_avx512bf16(const FloatStrip *s) { gemm_w8_avx512(s); }
extern "C" void convert_avx512bf16(const Convert *c) { convert_rows(c); }
