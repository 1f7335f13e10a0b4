// A transformer's layers one after the other: nothing is handed back in between, and each works in the memory
// of the one before.
#include <optional>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "attention_bytes.h"
#include "checks.h"
#include "feed_forward.h"

namespace {

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

const char *const OP = "layers_int8";

// `held` where it is of this size, else a new one.
Tensor reused(const std::optional<Tensor> &held, int64_t rows, int64_t columns) {
  const bool fits = held && held->size(0) == rows && held->size(1) == columns;
  return fits ? *held : empty({rows, columns}, ScalarType::Float);
}

Five layers_int8(const Tensor &qkv, const Tensor &residual, const Tensor &starts,
                 const std::optional<Tensor> &keep, int64_t heads, double scale, bool symmetric,
                 const std::vector<double> &fixed_scales, const std::vector<int64_t> &fixed_zeros,
                 bool precise, bool causal, const std::vector<Tensor> &layers, bool quantize, int64_t then) {
  check_tensor(OP, "qkv", qkv, ScalarType::Float, 2);
  const size_t count = layers.size();
  if (count == 0 || fixed_scales.size() != count || fixed_zeros.size() != count)
    fail(OP, "there must be a fixed_scale and a fixed_zero for each layer, and a layer",
         std::to_string(fixed_scales.size()) + ", " + std::to_string(fixed_zeros.size()) + " and " +
             std::to_string(count),
         "pass all of them");
  const int64_t m = qkv.size(0);
  Tensor read = qkv, added = dense(residual);
  std::optional<Tensor> y, z; // of a layer before: the next one may write there
  for (size_t i = 0;; i++) {
    const bool last = i + 1 == count;
    const Rows rows = empty_rows(m, read.size(1) / 3);
    attend_to_bytes(OP, read, starts, keep,
                    {heads, scale, symmetric, fixed_scales[i], fixed_zeros[i], precise, causal},
                    {out<uint8_t>(rows.q), out<float>(rows.scale), out<int32_t>(rows.zero_point)});
    const FeedForward f = feed_forward_of(OP, layers[i], rows.k);
    if (last)
      check_results(OP, f, quantize, then);
    else if (!f.then)
      fail(OP, "a layer before the last must have a fourth linear", "none",
           "pack it with the next one's query, key and value");
    const int64_t n = f.first.linear.n;
    check_residual(OP, added, m, n);
    y = reused(y, m, n), z = reused(z, f.then ? m : 0, f.then ? f.then->n : 0);
    const Rows bytes = empty_rows(last && quantize ? m : 0, n);
    run(f, {rows, data<float>(added), out<float>(*y), bytes, out<float>(*z)});
    if (last)
      return {*y, bytes.q, bytes.scale, bytes.zero_point, *z};
    added = *y, read = *z;
  }
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { m.impl("layers_int8", TORCH_BOX(&layers_int8)); }
