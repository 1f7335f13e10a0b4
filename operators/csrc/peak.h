// A loop over twelve independent sums in registers: with two units of latency 4, eight would do; no memory is
// touched. dot(sum, a, b) is one instruction. Plain C inside: this is compiled for one instruction set a
// file.
#pragma once

#include <stdint.h>

enum { SUMS = 12, STEPS = 8 };

#define PEAK_LOOP(vector, zero, dot, multiply_adds, loops)                                                   \
  vector s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero;                                   \
  vector s6 = zero, s7 = zero, s8 = zero, s9 = zero, s10 = zero, s11 = zero;                                 \
  vector a = zero, b = zero;                                                                                 \
  for (int64_t i = 0; i < loops; i++) {                                                                      \
    _Pragma("GCC unroll 8") for (int step = 0; step < STEPS; step++) {                                       \
      dot(s0, a, b), dot(s1, a, b), dot(s2, a, b), dot(s3, a, b), dot(s4, a, b), dot(s5, a, b);              \
      dot(s6, a, b), dot(s7, a, b), dot(s8, a, b), dot(s9, a, b), dot(s10, a, b), dot(s11, a, b);            \
    }                                                                                                        \
  }                                                                                                          \
  return loops * SUMS * STEPS * multiply_adds;
