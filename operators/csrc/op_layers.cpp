// A transformer's layers one after the other: nothing is handed back in between, and each works in the memory
// of the one before.
#include <optional>
#include <tuple>
#include <vector>

#include "attention_bytes.h"
#include "calls.h"
#include "checks.h"
#include "feed_forward.h"

namespace {

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

const char *const OP = "layers_int8";

// Whether `held` has this size; a layer may work in what one before has read.
bool fits(const std::optional<Tensor> &held, int64_t rows, int64_t columns) {
  return held && held->size(0) == rows && held->size(1) == columns;
}

// For heads of d columns. Their rows are an odd number of heads apart: at a power of two, as the widths of
// models are, one head's rows would compete for a few lines of the cache.
Tensor empty_qkv(int64_t rows, int64_t columns, int64_t d) {
  const int64_t stride = d && columns / d % 2 == 0 ? columns + d : columns;
  return empty({rows, columns}, {stride, 1}, ScalarType::Float);
}

Five layers_int8(const Tensor &qkv, const Tensor &residual, const Tensor &starts,
                 const std::optional<Tensor> &keep, int64_t heads, double scale, bool symmetric,
                 const std::vector<double> &fixed_scales, const std::vector<int64_t> &fixed_zeros,
                 int64_t rotation, bool precise, bool causal, const std::vector<Tensor> &layers,
                 bool quantize, int64_t then, const std::optional<Tensor> &table,
                 const std::optional<Tensor> &places) {
  check_tensor(OP, "qkv", qkv, ScalarType::Float, 2);
  const size_t count = layers.size();
  if (count == 0 || fixed_scales.size() != count || fixed_zeros.size() != count)
    fail(OP, "there must be a fixed_scale and a fixed_zero for each layer, and a layer",
         std::to_string(fixed_scales.size()) + ", " + std::to_string(fixed_zeros.size()) + " and " +
             std::to_string(count),
         "pass all of them");
  const int64_t m = qkv.size(0);
  Tensor read = qkv, added = dense(residual);
  std::optional<Rows> rows;
  std::optional<Tensor> floats, y, z;
  for (size_t i = 0;; i++) {
    const bool last = i + 1 == count;
    const int64_t h = read.size(1) / 3;
    if (!rows || rows->k != h)
      rows = empty_rows(m, h), floats = empty({m, h}, ScalarType::Float);
    const bool late = attend_to_bytes(
        OP, read, starts, keep,
        {heads, scale, symmetric, fixed_scales[i], fixed_zeros[i], rotation, precise, causal, table, places},
        {out<uint8_t>(rows->q), out<float>(rows->scale), out<int32_t>(rows->zero_point),
         out<float>(*floats)});
    const FeedForward f = feed_forward_of(OP, layers[i], h);
    if (last)
      check_results(OP, f, quantize, then);
    else if (!f.then)
      fail(OP, "a layer before the last must have a fourth linear", "none",
           "pack it with the next one's query, key and value");
    const int64_t n = f.first.linear.n, p = f.then ? f.then->n : 0;
    check_residual(OP, added, m, n);
    if (!fits(y, m, n))
      y = empty({m, n}, ScalarType::Float);
    if (last)
      z = empty({p ? m : 0, p}, ScalarType::Float);
    else if (!fits(z, m, p))
      z = empty_qkv(m, p, p / (3 * heads));
    const Rows bytes = last ? empty_rows(quantize ? m : 0, n) : Rows{};
    const Activation how = checked_levels(OP, symmetric, fixed_scales[i], fixed_zeros[i], rotation);
    run(f, {*rows, late ? data<float>(*floats) : nullptr, how, data<float>(added), out<float>(*y), bytes,
            out<float>(*z), z->stride(0)});
    if (last)
      return {*y, bytes.q, bytes.scale, bytes.zero_point, *z};
    added = *y, read = *z;
  }
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { serve<&layers_int8>(m, "layers_int8"); }
