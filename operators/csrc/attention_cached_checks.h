// What attention_cached is given: one line for what does not fit.
#pragma once

#include <string>

#include "attention_checks.h"
#include "tensors.h"

inline bool is_half(const Tensor &t) { return t.scalar_type() == ScalarType::BFloat16; }

inline void check_kept(const char *op, const char *name, const Tensor &t, int64_t shared, int64_t d) {
  const ScalarType type = t.scalar_type();
  const bool kind = type == ScalarType::Float || type == ScalarType::BFloat16;
  if (!(t.is_cpu() && kind && t.dim() == 4 && t.size(0) > 0 && t.size(1) == shared && t.size(3) == d &&
        t.is_contiguous()))
    fail(op,
         std::string(name) + " must be float32 or bfloat16 [batch, " + std::to_string(shared) + ", room, " +
             std::to_string(d) + "], contiguous",
         named(t), "allocate them so");
}

inline void check_cached(const char *op, const Tensor &qkv, const Tensor &keys, const Tensor &values,
                         int64_t past, const Tensor &mask, int64_t heads, double scale) {
  const bool divides = keys.dim() == 4 && keys.size(1) > 0 && heads % keys.size(1) == 0;
  const int64_t shared = divides ? keys.size(1) : heads;
  check_heads(op, qkv, heads, scale, shared);
  const int64_t d = qkv.size(1) / (heads + 2 * shared);
  check_kept(op, "keys", keys, shared, d), check_kept(op, "values", values, shared, d);
  if (keys.size(0) != values.size(0) || keys.size(2) != values.size(2) || is_half(keys) != is_half(values))
    fail(op, "keys and values must be alike", shape_of(keys) + " and " + shape_of(values), "fix them");
  const int64_t batch = keys.size(0), room = keys.size(2), rows = qkv.size(0);
  if (rows % batch)
    fail(op, "qkv must have as many rows for each of " + std::to_string(batch) + " sequences", rows,
         "fix qkv or keys");
  const int64_t whole = past + rows / batch;
  if (past < 0 || whole > room)
    fail(op, "past and new tokens must fit into " + std::to_string(room), whole, "make more room");
  const ScalarType type = mask.scalar_type();
  const bool kind = type == ScalarType::Long || type == ScalarType::Bool;
  if (!(mask.is_cpu() && kind && mask.dim() == 2 && mask.size(0) == batch && mask.size(1) == whole))
    fail(op, "mask must be int64 or bool [" + std::to_string(batch) + ", " + std::to_string(whole) + "]",
         named(mask), "one column a token, past and new");
}
