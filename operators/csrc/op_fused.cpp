// An int8 linear layer together with what follows it in a transformer: no intermediate leaves the cache.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "calls.h"
#include "checks.h"
#include "dispatch.h"
#include "layer_norm.h"
#include "linear.h"
#include "pool.h"

namespace {

using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

float *floats(int64_t count) { return static_cast<float *>(scratch(0, count * sizeof(float))); }

Four results(const Tensor &y, const Rows &r) { return {y, r.q, r.scale, r.zero_point}; }

Three linear_int8_gelu(const Tensor &q, const Tensor &scale, const Tensor &zero_point, const Tensor &packed,
                       const Tensor &weight_sum, const Tensor &weight_scale,
                       const std::optional<Tensor> &bias, bool symmetric, double fixed_scale,
                       int64_t fixed_zero, int64_t rotation, bool by_tanh) {
  const Activation how = checked_levels("linear_int8_gelu", symmetric, fixed_scale, fixed_zero, rotation);
  const Rows a = checked_rows("linear_int8_gelu", q, scale, zero_point);
  const Linear w = checked_linear("linear_int8_gelu", packed, weight_sum, weight_scale, bias, a.k);
  check_depth("linear_int8_gelu", w.n); // they become rows
  const Rows r = empty_rows(a.m, w.n);
  const auto kernel = kernels_in_use().gelu;
  in_blocks(a.m, w.n, [&](int64_t first, int64_t rows) {
    float *y = floats(rows * w.n);
    product(rows_at(a, first, rows), w, y);
    in_pieces(rows, [&](int64_t i, int64_t count) {
      const Row bytes = row_of(r, first + i, y + i * w.n, how);
      kernel(y + i * w.n, &bytes, count, by_tanh);
    });
  });
  return {r.q, r.scale, r.zero_point};
}

Four linear_int8_add_norm(const Tensor &q, const Tensor &scale, const Tensor &zero_point,
                          const Tensor &packed, const Tensor &weight_sum, const Tensor &weight_scale,
                          const std::optional<Tensor> &bias, const Tensor &residual, const Tensor &gamma,
                          const Tensor &beta, double eps, bool quantize, bool symmetric, double fixed_scale,
                          int64_t fixed_zero, int64_t rotation, const std::optional<Tensor> &smooth_scale,
                          const std::optional<Tensor> &smooth_shift, bool keeps_sum, bool rms) {
  const char *const op = "linear_int8_add_norm";
  const Activation how = checked_levels(op, symmetric, fixed_scale, fixed_zero, rotation);
  const Rows a = checked_rows(op, q, scale, zero_point);
  const Linear w = checked_linear(op, packed, weight_sum, weight_scale, bias, a.k);
  check_depth(op, w.n);
  const LayerNorm norm =
      checked_norm(op, gamma, beta, eps, smooth_scale, smooth_shift, quantize, keeps_sum, rms, w.n);
  check_residual(op, residual, a.m, w.n);
  const Tensor added = dense(residual), y = empty({a.m, w.n}, ScalarType::Float);
  const Rows r = quantize ? empty_rows(a.m, w.n) : empty_rows(0, w.n);
  in_blocks(a.m, w.n, [&](int64_t first, int64_t rows) {
    float *x = floats(rows * w.n);
    product(rows_at(a, first, rows), w, x, data<float>(added) + first * w.n);
    in_pieces(rows, [&](int64_t i, int64_t count) {
      const int64_t at = (first + i) * w.n;
      const Row bytes = row_of(r, quantize ? first + i : 0, nullptr, how);
      normalize(norm, x + i * w.n, data<float>(added) + at, out<float>(y) + at, count, w.n,
                quantize ? &bytes : nullptr);
    });
  });
  return results(y, r);
}

Three gelu_rows(const Tensor &x, bool symmetric, double fixed_scale, int64_t fixed_zero, int64_t rotation,
                bool by_tanh) {
  check_tensor("gelu_rows", "x", x, ScalarType::Float, 2);
  const Activation how = checked_levels("gelu_rows", symmetric, fixed_scale, fixed_zero, rotation);
  const int64_t m = x.size(0), n = x.size(1);
  check_depth("gelu_rows", n);
  const Tensor from = dense(x);
  const Rows r = empty_rows(m, n);
  const auto kernel = kernels_in_use().gelu;
  for_each_task(ceil_div(m, ENOUGH_ROWS), [&](int64_t task) {
    const int64_t first = task * ENOUGH_ROWS, rows = std::min(ENOUGH_ROWS, m - first);
    float *y = floats(rows * n);
    std::memcpy(y, data<float>(from) + first * n, rows * n * sizeof(float));
    const Row row = row_of(r, first, y, how);
    kernel(y, &row, rows, by_tanh);
  });
  return {r.q, r.scale, r.zero_point};
}

Four norm_rows(const Tensor &x, const Tensor &gamma, const Tensor &beta, double eps, bool quantize,
               bool symmetric, double fixed_scale, int64_t fixed_zero, int64_t rotation,
               const std::optional<Tensor> &smooth_scale, const std::optional<Tensor> &smooth_shift,
               bool keeps_sum, bool rms, const std::optional<Tensor> &residual) {
  check_tensor("norm_rows", "x", x, ScalarType::Float, 2);
  const Activation how = checked_levels("norm_rows", symmetric, fixed_scale, fixed_zero, rotation);
  const int64_t m = x.size(0), n = x.size(1);
  check_depth("norm_rows", n);
  const LayerNorm norm =
      checked_norm("norm_rows", gamma, beta, eps, smooth_scale, smooth_shift, quantize, keeps_sum, rms, n);
  if (residual)
    check_residual("norm_rows", *residual, m, n);
  const Tensor from = dense(x), y = empty({m, n}, ScalarType::Float);
  const std::optional<Tensor> added = dense(residual);
  const float *add = data<float>(added);
  const Rows r = empty_rows(quantize ? m : 0, n);
  for_each_task(ceil_div(m, ENOUGH_ROWS), [&](int64_t task) {
    const int64_t first = task * ENOUGH_ROWS, at = first * n;
    const Row bytes = row_of(r, quantize ? first : 0, nullptr, how);
    normalize(norm, data<float>(from) + at, add ? add + at : nullptr, out<float>(y) + at,
              std::min(ENOUGH_ROWS, m - first), n, quantize ? &bytes : nullptr);
  });
  return results(y, r);
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  serve<&linear_int8_gelu>(m, "linear_int8_gelu");
  serve<&linear_int8_add_norm>(m, "linear_int8_add_norm");
  serve<&gelu_rows>(m, "gelu_rows");
  serve<&norm_rows>(m, "norm_rows");
}
