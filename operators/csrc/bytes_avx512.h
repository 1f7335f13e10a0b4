// quantize.h once more, in AVX-512: the same bits with fewer passes over a row. What a row spans is found
// while its values are still in registers.
#pragma once

#include <immintrin.h>

#include "rows.h"

enum { WIDTH = 16, AT_ONCE = 4 };

// Row after row: loops over rows with a fixed number of them are unrolled.
#define EACH_ROW _Pragma("GCC unroll 4") for (int row = 0; row < R; row++)

// Lanes of a register at `at` of a row of n values.
static inline __mmask16 lanes_at(int64_t at, int64_t n) {
  return n - at >= WIDTH ? 0xffff : (__mmask16)((1u << (n - at)) - 1);
}

// Range, by lane; most of it for symmetric rows, the others for asymmetric ones.
typedef struct {
  __m512i most;
  __m512 least, largest; // mean nothing where there is a NaN, which `most` tells
} Ranges;

static inline void see_avx512(Ranges *r, __mmask16 m, __m512 x, int symmetric) {
  const __m512i bits = _mm512_castps_si512(x), plain = _mm512_set1_epi32(0x7fffffff);
  r->most = _mm512_mask_max_epi32(r->most, m, r->most, _mm512_and_si512(bits, plain));
  if (!symmetric) {
    r->least = _mm512_mask_min_ps(r->least, m, r->least, x);
    r->largest = _mm512_mask_max_ps(r->largest, m, r->largest, x);
  }
}

static inline Range range_avx512(const Ranges *r, int symmetric) {
  Range range = {_mm512_reduce_max_epi32(r->most), 0, 0};
  if (!symmetric) {
    range.least = ordered(bits_of(_mm512_reduce_min_ps(r->least)));
    range.largest = ordered(bits_of(_mm512_reduce_max_ps(r->largest)));
  }
  return range;
}

// A row's bytes: x * by, to an integer (which rounds half to even, as adding 1.5 * 2**23 does), + add, within
// low and 255. In 32 bits for one register, in 16 and 8 for four at once. FAR: x may lie far outside of the
// range.
typedef struct {
  __m512 by;
  __m512i add, low, add16, low8;
} Steps;

static inline Steps steps_of(float inverse, int32_t zero, int32_t least) {
  return {_mm512_set1_ps(inverse), _mm512_set1_epi32(zero), _mm512_set1_epi32(least),
          _mm512_set1_epi16((short)zero), _mm512_set1_epi8((char)least)};
}

template <bool FAR>
static inline __m512i level_of(Steps s, __m512 x) {
  __m512 level = _mm512_mul_ps(x, s.by);
  if (FAR) // beyond 255 levels to either side
    level = _mm512_min_ps(_mm512_max_ps(level, _mm512_set1_ps(-512)), _mm512_set1_ps(512));
  return _mm512_cvtps_epi32(level);
}

template <bool FAR>
static inline void store_bytes(uint8_t *q, __mmask16 m, Steps s, __m512 x) {
  const __m512i whole = _mm512_add_epi32(level_of<FAR>(s, x), s.add);
  _mm_mask_storeu_epi8(q, m, _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, s.low)));
}

// 64 values, packed to 16 and to 8 bits within the quarters of registers, then put in order.
template <bool FAR>
static inline void store_four(uint8_t *q, Steps s, const float *x) {
  __m512i level[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    level[i] = level_of<FAR>(s, _mm512_loadu_ps(x + i * WIDTH));
  const __m512i first = _mm512_add_epi16(_mm512_packs_epi32(level[0], level[1]), s.add16);
  const __m512i last = _mm512_add_epi16(_mm512_packs_epi32(level[2], level[3]), s.add16);
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i bytes = _mm512_max_epu8(_mm512_packus_epi16(first, last), s.low8);
  _mm512_storeu_si512(q, _mm512_permutexvar_epi32(order, bytes));
}

template <bool FAR>
static inline void scale_avx512(const float *x, int64_t k, Steps s, uint8_t *q) {
  int64_t i = 0;
  for (; i + 4 * WIDTH <= k; i += 4 * WIDTH)
    store_four<FAR>(q + i, s, x + i);
  for (; i < k; i += WIDTH)
    store_bytes<FAR>(q + i, lanes_at(i, k), s, _mm512_maskz_loadu_ps(lanes_at(i, k), x + i));
}

static inline Steps fixed_steps(const Row *r) {
  return steps_of(1.0f / r->fixed_scale, r->fixed_zero, r->symmetric ? 1 : 0);
}

// The rest of R rows, once it is known what they span; with a fixed scale their bytes may be there already.
// The levels of all come first: each takes a chain of steps that leaves a CPU idle.
template <int R>
static inline void finish_rows(const Row *first, const Ranges (&ranges)[R], bool bytes) {
  Row rows[R];
  Levels levels[R];
  EACH_ROW rows[row] = row_at(first, row);
  if (first->fixed_scale > 0) {
    EACH_ROW {
      if (!bytes)
        scale_avx512<true>(rows[row].x, first->k, fixed_steps(first), rows[row].q);
      finish_fixed(&rows[row], _mm512_reduce_max_epi32(ranges[row].most));
    }
    return;
  }
  EACH_ROW levels[row] = levels_of(&rows[row], range_avx512(&ranges[row], first->symmetric));
  EACH_ROW {
    const Levels l = levels[row];
    if (l.finite)
      scale_avx512<false>(rows[row].x, first->k, steps_of(l.inverse, l.zero, l.least), rows[row].q);
    else
      memset(rows[row].q, l.zero, first->k);
  }
}

template <int R>
static inline void quantize_rows_avx512(const Row *first) {
  const int symmetric = first->symmetric || first->fixed_scale > 0;
  Ranges ranges[R];
  EACH_ROW {
    const float *x = first->x + row * first->k;
    Ranges seen = {};
    int64_t i = 0;
    for (; i + WIDTH <= first->k; i += WIDTH)
      see_avx512(&seen, 0xffff, _mm512_loadu_ps(x + i), symmetric);
    if (i < first->k) {
      const __mmask16 m = lanes_at(i, first->k);
      see_avx512(&seen, m, _mm512_maskz_loadu_ps(m, x + i), symmetric);
    }
    ranges[row] = seen;
  }
  finish_rows<R>(first, ranges, false);
}
