// What attention and attention_int8 accept, for tensors on the CPU: operators/validate.py says the same.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "checks.h"
#include "tensors.h"

// shared: heads of keys and of values, where they are fewer than those of queries; 0: as many.
inline void check_heads(const char *op, const Tensor &qkv, int64_t heads, double scale, int64_t shared = 0) {
  const ScalarType type = qkv.scalar_type();
  if (!(qkv.is_cpu() && qkv.dim() == 2 && (type == ScalarType::Float || type == ScalarType::BFloat16)))
    fail(op, "qkv must be Float or BFloat16 on the CPU with 2 dimensions", named(qkv),
         "convert or reshape it");
  const bool fewer = shared != 0 && shared != heads;
  if (!(heads > 0 && qkv.size(1) > 0 && qkv.size(1) % (fewer ? heads + 2 * shared : 3 * heads) == 0)) {
    const std::string columns = fewer ? "(heads + 2 * " + std::to_string(shared) + ") * d" : "3 * heads * d";
    fail(op, "qkv must have " + columns + " columns for " + std::to_string(heads) + " heads", qkv.size(1),
         "fix qkv or heads");
  }
  if (!std::isfinite(scale))
    fail(op, "scale must be finite", scale, "pass d ** -0.5");
}

inline void check_attention(const char *op, const Tensor &qkv, const Tensor &starts,
                            const std::optional<Tensor> &keep, int64_t heads, double scale) {
  check_heads(op, qkv, heads, scale);
  check_tensor(op, "starts", starts, ScalarType::Int, 1);
  if (keep)
    check_vector(op, "keep", *keep, ScalarType::Bool, qkv.size(0));
}

// The values of starts, which the fake cannot see.
inline std::vector<int64_t> starts_of(const char *op, const Tensor &starts, int64_t rows) {
  const Tensor from = dense(starts);
  const int32_t *at = data<int32_t>(from);
  const std::vector<int64_t> all(at, at + from.numel());
  const bool ok =
      !all.empty() && all.front() == 0 && all.back() == rows && std::is_sorted(all.begin(), all.end());
  if (!ok)
    fail(op, "starts must rise from 0 to " + std::to_string(rows) + ", the rows of qkv",
         all.empty() ? std::string("nothing")
                     : std::to_string(all.front()) + ".." + std::to_string(all.back()),
         "use the running sum of the lengths");
  return all;
}
