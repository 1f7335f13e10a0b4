// The int8 linear layer for CPU tensors, over the stable ABI: check, allocate, split the work over threads.
// Every output element is computed by one call of one kernel, so results do not depend on the thread count.
#include <algorithm>
#include <tuple>

#include "calls.h"
#include "checks.h"
#include "dispatch.h"
#include "linear.h"
#include "pool.h"

namespace {

const int64_t BLOCK = 48;             // rows of one task: a multiple of the tile heights
const int64_t ENOUGH_BYTES = 1 << 15; // less work than this is not worth handing to another thread
const int64_t ENOUGH_MACS = 1 << 19;

// x: contiguous, rows of k
Rows quantize(const Tensor &x, int64_t k, const Activation &how) {
  const int64_t m = x.numel() / k, block = ceil_div(ENOUGH_BYTES, k);
  Rows r = empty_rows(m, k);
  const auto kernel = kernels_in_use().quantize;
  for_each_task(ceil_div(m, block), [&](int64_t task) {
    const int64_t first = task * block;
    const Row row = row_of(r, first, data<float>(x) + first * k, how);
    kernel(&row, std::min(block, m - first));
  });
  return r;
}

// `whole` describes the whole product, [rows, columns]; tasks are blocks of rows of some panels. Consecutive
// tasks share what is larger to fetch again: the panel where the weights outweigh the rows, else the rows, so
// that the weights stay in the cache and whole rows are written.
void multiply(const Strip &whole) {
  const auto kernel = kernels_in_use().gemm;
  const int64_t panels = ceil_div(whole.columns, PANEL), blocks = ceil_div(whole.rows, BLOCK);
  const int64_t panel_bytes = ceil_div(whole.k, GROUP) * GROUP * PANEL;
  const int64_t step_macs = std::max<int64_t>(1, std::min(BLOCK, whole.rows) * panel_bytes);
  const bool share_panel = panels * panel_bytes >= whole.rows * whole.k;
  const int64_t steps = panels * blocks, grain = std::max<int64_t>(1, ENOUGH_MACS / step_macs);
  for_each_task(ceil_div(steps, grain), [&](int64_t task) {
    for (int64_t t = task * grain; t < std::min(steps, (task + 1) * grain); t++) {
      const int64_t panel = share_panel ? t / blocks : t % panels;
      const int64_t row = (share_panel ? t % blocks : t / panels) * BLOCK;
      Strip s = panel_of(rows_of(whole, row, std::min(BLOCK, whole.rows - row)), panel);
      s.near = s.y;
      bring_columns(whole, std::min(panel + 1, panels - 1));
      kernel(&s);
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> quantize_per_token(const Tensor &x, bool symmetric, double fixed_scale,
                                                      int64_t fixed_zero, int64_t rotation) {
  check_activation("quantize_per_token", x);
  const Activation how = checked_levels("quantize_per_token", symmetric, fixed_scale, fixed_zero, rotation);
  Rows r = quantize(dense(x), x.size(x.dim() - 1), how);
  return {r.q, r.scale, r.zero_point};
}

Tensor int8_matmul(const Tensor &q, const Tensor &zero_point, const Tensor &packed,
                   const Tensor &weight_sum) {
  const char *const op = "int8_matmul";
  check_tensor(op, "q", q, ScalarType::Byte, 2);
  check_depth(op, q.size(1));
  check_vector(op, "zero_point", zero_point, ScalarType::Int, q.size(0));
  check_packed(op, packed, q.size(1), weight_sum);
  const int64_t m = q.size(0), k = q.size(1), n = weight_sum.size(0);
  const Tensor from = dense(q), zero = dense(zero_point), w = dense(packed), sum = dense(weight_sum);
  Tensor acc = empty({m, n}, ScalarType::Int);
  multiply(Strip{data<uint8_t>(from), k, m, k, data<int32_t>(zero), data<int8_t>(w), nullptr,
                 data<int32_t>(sum), n, n, out<int32_t>(acc), nullptr, nullptr, nullptr, nullptr, nullptr});
  return acc;
}

Tensor linear_int8(const Tensor &x, const Tensor &packed, const Tensor &weight_sum,
                   const Tensor &weight_scale, const std::optional<Tensor> &bias, bool symmetric,
                   double fixed_scale, int64_t fixed_zero, int64_t rotation) {
  check_activation("linear_int8", x);
  const int64_t k = x.size(x.dim() - 1);
  const Linear w = checked_linear("linear_int8", packed, weight_sum, weight_scale, bias, k);
  const Activation how = checked_levels("linear_int8", symmetric, fixed_scale, fixed_zero, rotation);
  const Rows a = quantize(dense(x), k, how);
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() = w.n;
  Tensor y = empty(sizes, ScalarType::Float);
  multiply(whole_product(rows_at(a, 0, a.m), w, out<float>(y)));
  return y;
}

Tensor linear_int8_rows(const Tensor &q, const Tensor &scale, const Tensor &zero_point, const Tensor &packed,
                        const Tensor &weight_sum, const Tensor &weight_scale,
                        const std::optional<Tensor> &bias) {
  const Rows a = checked_rows("linear_int8_rows", q, scale, zero_point);
  const Linear w = checked_linear("linear_int8_rows", packed, weight_sum, weight_scale, bias, a.k);
  Tensor y = empty({a.m, w.n}, ScalarType::Float);
  multiply(whole_product(rows_at(a, 0, a.m), w, out<float>(y)));
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  serve<&quantize_per_token>(m, "quantize_per_token");
  serve<&int8_matmul>(m, "int8_matmul");
  serve<&linear_int8>(m, "linear_int8");
  serve<&linear_int8_rows>(m, "linear_int8_rows");
}
