// What a file for an instruction set with AVX-512 defines besides gemm_NAME: rows.h once more, with the same
// bits.
#pragma once

#include "activations_avx512.h"
#include "norm_avx512.h"
#include "rotary.h"
#include "turn_avx512.h"

template <int R>
struct Rows {
  enum { COUNT = R };
};

// Calls what(Rows<R>(), i) for all rows i, R of them at a time.
template <class What>
static inline void in_groups(int64_t count, const What &what) {
  int64_t i = 0;
  for (; i + AT_ONCE <= count; i += AT_ONCE)
    what(Rows<AT_ONCE>(), i);
  for (; i < count; i++)
    what(Rows<1>(), i);
}

template <bool RMS>
static void norm_avx512(const Norm *n, const Row *r, int64_t count) {
  in_groups(count, [&](auto rows, int64_t i) {
    const Norm first = norm_at(n, i);
    const Row bytes = r ? row_at(r, i) : Row();
    norm_rows_avx512<decltype(rows)::COUNT, RMS>(&first, r ? &bytes : nullptr);
  });
}

enum { NEARBY = 4096 }; // values that stay in the L1 cache beside what they are made of

// Of rows that are floats. Those that are turned are several at a time where they stay near.
static void turned_avx512(const Row *r, int64_t count) {
  float turned[MAX_K];
  int64_t i = 0;
  for (; AT_ONCE * r->k <= NEARBY && i + AT_ONCE <= count; i += AT_ONCE) {
    const Row first = row_at(r, i);
    turn_rows_avx512<AT_ONCE>(&first, turned);
  }
  for (; i < count; i++) {
    const Row first = row_at(r, i);
    turn_rows_avx512<1>(&first, turned);
  }
}

#define ROW_KERNELS_AVX512(name)                                                                             \
  extern "C" void quantize_##name(const Row *r, int64_t count) {                                             \
    if (r->rotation)                                                                                         \
      return turned_avx512(r, count);                                                                        \
    in_groups(count, [&](auto rows, int64_t i) {                                                             \
      const Row first = row_at(r, i);                                                                        \
      quantize_rows_avx512<decltype(rows)::COUNT>(&first);                                                   \
    });                                                                                                      \
  }                                                                                                          \
  extern "C" void gelu_##name(float *x, const Row *r, int64_t count, int by_tanh) {                          \
    in_groups(count, [&](auto rows, int64_t i) {                                                             \
      const Row first = row_at(r, i);                                                                        \
      gelu_rows_avx512<decltype(rows)::COUNT>(x + i * r->k, &first, by_tanh);                                \
    });                                                                                                      \
    if (r->rotation)                                                                                         \
      turned_avx512(r, count);                                                                               \
  }                                                                                                          \
  extern "C" void gate_##name(const Gate *g, const Row *r, int64_t count) {                                  \
    in_groups(count, [&](auto rows, int64_t i) {                                                             \
      const Gate first = gate_at(g, i);                                                                      \
      const Row bytes = r ? row_at(r, i) : Row();                                                            \
      gate_rows_avx512<decltype(rows)::COUNT>(&first, r ? &bytes : nullptr);                                 \
    });                                                                                                      \
    if (r && r->rotation)                                                                                    \
      turned_avx512(r, count);                                                                               \
  }                                                                                                          \
  extern "C" void norm_##name(const Norm *n, const Row *r, int64_t count) {                                  \
    (n->rms ? norm_avx512<true> : norm_avx512<false>)(n, r, count);                                          \
    if (r && r->rotation)                                                                                    \
      turned_avx512(r, count);                                                                               \
  }                                                                                                          \
  ROTARY_KERNEL(name)
