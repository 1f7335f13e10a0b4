// What the operators accept, for tensors on the CPU: operators/validate.py says the same for the reference.
#pragma once

#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

#include <torch/csrc/stable/tensor.h>

#include "kernels.h"

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_of(const Tensor &t) {
  std::ostringstream out;
  for (int64_t i = 0; i < t.dim(); i++)
    out << (i ? ", " : "") << t.size(i);
  return "[" + out.str() + "]";
}

// Throws one line: what `op` wanted, what came, what to do. Words are made only for that: operators are
// called often.
template <class T>
[[noreturn]] void fail(const char *op, const std::string &wanted, const T &got, const std::string &todo) {
  std::ostringstream out;
  out << op << ": " << wanted << "; got " << got << "; " << todo;
  throw std::runtime_error(out.str());
}

inline std::string named(const Tensor &t) {
  return std::string(torch::headeronly::toString(t.scalar_type())) + " of shape " + shape_of(t);
}

inline void check_tensor(const char *op, const char *name, const Tensor &t, ScalarType type, int64_t dims) {
  if (!t.is_cpu() || t.scalar_type() != type || t.dim() != dims)
    fail(op,
         std::string(name) + " must be " + torch::headeronly::toString(type) + " on the CPU with " +
             std::to_string(dims) + (dims == 1 ? " dimension" : " dimensions"),
         named(t), "convert or reshape it");
}

inline void check_vector(const char *op, const char *name, const Tensor &t, ScalarType type, int64_t length) {
  check_tensor(op, name, t, type, 1);
  if (t.size(0) != length)
    fail(op, std::string(name) + " must have " + std::to_string(length) + " entries", t.size(0), "fix it");
}

inline void check_depth(const char *op, int64_t k) {
  if (k <= 0 || k > MAX_K)
    fail(op, "K must lie in 1.." + std::to_string(MAX_K) + ", where int32 sums are exact", k,
         "split the reduction");
}

inline void check_activation(const char *op, const Tensor &x) {
  if (!x.is_cpu() || x.scalar_type() != ScalarType::Float || x.dim() < 1)
    fail(op, "x must be Float on the CPU with at least 1 dimension", named(x), "convert x with .float()");
  check_depth(op, x.size(x.dim() - 1));
}

// How rows of floats become bytes: each by its own range (scale 0), or all by one that was calibrated.
struct Activation {
  bool symmetric;
  float scale;
  int32_t zero, rotation;
};

inline Activation checked_levels(const char *op, bool symmetric, double scale, int64_t zero,
                                 int64_t rotation) {
  const float narrow = static_cast<float>(scale);
  if (scale != 0 && !(narrow >= std::numeric_limits<float>::min() && std::isfinite(narrow)))
    fail(op, "fixed_scale must be 0 (per token) or a normal, finite, positive float32", scale,
         "calibrate again");
  if (zero < symmetric || zero > 255)
    fail(op, std::string("fixed_zero must lie in ") + (symmetric ? "1" : "0") + "..255", zero,
         "calibrate again");
  if (rotation < 0 || rotation == 1 || rotation > MAX_ROTATION || (rotation & (rotation - 1)))
    fail(op, "rotation must be 0 (none) or a power of 2 within 2.." + std::to_string(MAX_ROTATION), rotation,
         "pass " + std::to_string(MAX_ROTATION));
  return {symmetric, narrow, static_cast<int32_t>(zero), static_cast<int32_t>(rotation)};
}

inline void check_packed(const char *op, const Tensor &packed, int64_t k, const Tensor &weight_sum) {
  check_tensor(op, "packed", packed, ScalarType::Char, 4);
  check_tensor(op, "weight_sum", weight_sum, ScalarType::Int, 1);
  const int64_t n = weight_sum.size(0), panels = (n + PANEL - 1) / PANEL, groups = (k + GROUP - 1) / GROUP;
  if (packed.size(0) == panels && packed.size(1) == groups && packed.size(2) == PANEL &&
      packed.size(3) == GROUP)
    return;
  std::ostringstream wanted;
  wanted << "packed must have shape [" << panels << ", " << groups << ", " << PANEL << ", " << GROUP
         << "] for K=" << k << " and N=" << n;
  fail(op, wanted.str(), shape_of(packed), "use opswap::pack_weight");
}
