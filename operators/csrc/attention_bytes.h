// Attention whose result becomes bytes, for the operators that are made of it.
#pragma once

#include <cstdint>
#include <optional>

#include "tensors.h"

// The arguments of attention_int8 from heads on, in the order of its schema.
struct AttentionGiven {
  int64_t heads;
  double scale;
  bool symmetric;
  double fixed_scale;
  int64_t fixed_zero, rotation;
  bool precise, causal;
  const std::optional<Tensor> &table, &places;
};

// The T rows that it makes: [T, H], [T] and [T]. floats [T, H], or null: where a sequence's heads are shared
// by threads, its rows may stay floats, for whoever reads them to quantize.
struct AttentionBytesOut {
  uint8_t *q;
  float *scale;
  int32_t *zero_point;
  float *floats;
};

// Throws one line where the arguments do not fit each other; T and H are qkv's, [T, 3H]. -> whether all rows
// are in floats, else all are bytes
bool attend_to_bytes(const char *op, const Tensor &qkv, const Tensor &starts,
                     const std::optional<Tensor> &keep, const AttentionGiven &given,
                     const AttentionBytesOut &to);
