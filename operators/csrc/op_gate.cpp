// A gated feed-forward, act(a) * b of rows [a b], by itself and behind the int8 linear layer that makes them:
// no intermediate leaves the cache.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "calls.h"
#include "checks.h"
#include "dispatch.h"
#include "linear.h"
#include "pool.h"

namespace {

const int64_t PIECE = 4096; // floats that are worth a task of their own

using Three = std::tuple<Tensor, Tensor, Tensor>;

float *floats(int64_t count) { return static_cast<float *>(scratch(0, count * sizeof(float))); }

int checked_activation(const char *op, const std::string &name) {
  if (name != "gelu" && name != "gelu_tanh" && name != "silu")
    fail(op, "activation must be gelu, gelu_tanh or silu", name, "choose one");
  return name == "silu" ? GATE_SILU : name == "gelu_tanh" ? GATE_GELU_TANH : GATE_GELU;
}

// -> the columns of each half
int64_t checked_half(const char *op, int64_t columns) {
  if (columns % 2 || columns <= 0)
    fail(op, "the columns must be two halves of one width", columns, "pass both halves");
  return columns / 2;
}

Three linear_int8_gate(const Tensor &q, const Tensor &scale, const Tensor &zero_point, const Tensor &packed,
                       const Tensor &weight_sum, const Tensor &weight_scale,
                       const std::optional<Tensor> &bias, std::string activation, bool second, bool symmetric,
                       double fixed_scale, int64_t fixed_zero, int64_t rotation) {
  const char *const op = "linear_int8_gate";
  const int act = checked_activation(op, activation);
  const Activation how = checked_levels(op, symmetric, fixed_scale, fixed_zero, rotation);
  const Rows a = checked_rows(op, q, scale, zero_point);
  const Linear w = checked_linear(op, packed, weight_sum, weight_scale, bias, a.k);
  const int64_t n = checked_half(op, w.n);
  check_depth(op, n); // they become rows
  const Rows r = empty_rows(a.m, n);
  const auto kernel = kernels_in_use().gate;
  in_blocks(a.m, w.n, [&](int64_t first, int64_t rows) {
    float *y = floats(rows * w.n);
    product(rows_at(a, first, rows), w, y);
    in_pieces(rows, [&](int64_t i, int64_t count) {
      float *const x = y + i * w.n; // what is made goes there too, so that no piece writes to another's place
      const Gate gate = {x, n, act, second, x};
      const Row bytes = row_of(r, first + i, x, how);
      kernel(&gate, &bytes, count);
    });
  });
  return {r.q, r.scale, r.zero_point};
}

Three gate_rows(const Tensor &x, std::string activation, bool second, bool symmetric, double fixed_scale,
                int64_t fixed_zero, int64_t rotation) {
  const char *const op = "gate_rows";
  check_tensor(op, "x", x, ScalarType::Float, 2);
  const int act = checked_activation(op, activation);
  const Activation how = checked_levels(op, symmetric, fixed_scale, fixed_zero, rotation);
  const int64_t m = x.size(0), n = checked_half(op, x.size(1));
  check_depth(op, n);
  const Tensor from = dense(x);
  const Rows r = empty_rows(m, n);
  const auto kernel = kernels_in_use().gate;
  for_each_task(ceil_div(m, ENOUGH_ROWS), [&](int64_t task) {
    const int64_t first = task * ENOUGH_ROWS, rows = std::min(ENOUGH_ROWS, m - first);
    float *y = floats(rows * n);
    const Gate gate = {data<float>(from) + first * 2 * n, n, act, second, y};
    const Row bytes = row_of(r, first, y, how);
    kernel(&gate, &bytes, rows);
  });
  return {r.q, r.scale, r.zero_point};
}

// Those who gate get a gate of ones.
Tensor gelu(const Tensor &x, bool by_tanh) {
  const bool half = x.scalar_type() == ScalarType::BFloat16;
  if (!x.is_cpu() || (!half && x.scalar_type() != ScalarType::Float) || x.dim() < 1)
    fail("gelu", "x must be Float or BFloat16 on the CPU, [..., N]", named(x), "convert or reshape it");
  const Tensor from = dense(half ? torch::stable::to(x, ScalarType::Float) : x);
  const Tensor y = empty(std::vector<int64_t>(x.sizes().begin(), x.sizes().end()), ScalarType::Float);
  const auto kernel = kernels_in_use().gate;
  const int64_t count = x.numel();
  for_each_task(ceil_div(count, PIECE), [&](int64_t task) {
    const int64_t first = task * PIECE, n = std::min(PIECE, count - first);
    float *const both = floats(2 * n);
    std::copy_n(data<float>(from) + first, n, both);
    std::fill_n(both + n, n, 1.0f);
    const Gate gate = {both, n, by_tanh ? GATE_GELU_TANH : GATE_GELU, false, out<float>(y) + first};
    kernel(&gate, nullptr, 1);
  });
  return half ? torch::stable::to(y, ScalarType::BFloat16) : y;
}

Tensor gate(const Tensor &x, std::string activation, bool second) {
  const bool half = x.scalar_type() == ScalarType::BFloat16;
  if (!x.is_cpu() || (!half && x.scalar_type() != ScalarType::Float) || x.dim() < 1)
    fail("gate", "x must be Float or BFloat16 on the CPU, [..., 2 N]", named(x), "convert or reshape it");
  const int act = checked_activation("gate", activation);
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  const int64_t n = checked_half("gate", sizes.back()), m = x.numel() / (2 * n);
  sizes.back() = n;
  const Tensor from = dense(half ? torch::stable::to(x, ScalarType::Float) : x);
  const Tensor y = empty(sizes, ScalarType::Float);
  const auto kernel = kernels_in_use().gate;
  for_each_task(ceil_div(m, ENOUGH_ROWS), [&](int64_t task) {
    const int64_t first = task * ENOUGH_ROWS;
    const Gate gate = {data<float>(from) + first * 2 * n, n, act, second, out<float>(y) + first * n};
    kernel(&gate, nullptr, std::min(ENOUGH_ROWS, m - first));
  });
  return half ? torch::stable::to(y, ScalarType::BFloat16) : y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  serve<&linear_int8_gate>(m, "linear_int8_gate");
  serve<&gate_rows>(m, "gate_rows");
  serve<&gate>(m, "gate");
  serve<&gelu>(m, "gelu");
}
