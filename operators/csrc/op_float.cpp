// The float linear layer, and the one with int8 weights, for CPU tensors, over the stable ABI: check, convert
// the rows, split the work over threads. Every output element is computed by one call of one kernel, so
// results do not depend on the thread count.
#include <algorithm>
#include <string>

#include "calls.h"
#include "checks.h"
#include "float_dispatch.h"
#include "near.h"
#include "pool.h"
#include "tensors.h"

namespace {

const int64_t BLOCK = 48;             // rows of one task: a multiple of the tile heights
const int64_t ENOUGH_MACS = 1 << 18;  // less work than this is not worth handing to another thread
const int64_t ENOUGH_BYTES = 1 << 15; // the same for conversions

bool is_half(const Tensor &t) { return t.scalar_type() == ScalarType::BFloat16; }

void check(const char *op, const Tensor &x, const std::optional<Tensor> &bias, int64_t n,
           const std::string &activation) {
  const bool kind = x.scalar_type() == ScalarType::Float || is_half(x);
  if (!(x.is_cpu() && kind && x.dim() >= 1 && x.size(x.dim() - 1) > 0))
    fail(op, "x must be Float or BFloat16 on the CPU, [..., K], K > 0", named(x), "convert or reshape it");
  if (bias)
    check_vector(op, "bias", *bias, ScalarType::Float, n);
  if (activation != "none" && activation != "gelu" && activation != "gelu_tanh")
    fail(op, "activation must be none, gelu or gelu_tanh", activation, "choose one");
}

End end_of(const std::string &name) { return name == "gelu" ? GELU : name == "gelu_tanh" ? GELU_TANH : NONE; }

void check_float(const Tensor &x, const Tensor &packed, const std::optional<Tensor> &bias, int64_t n,
                 const std::string &activation) {
  const char *const op = "linear_float";
  if (n < 0)
    fail(op, "out_features must not be negative", n, "pass the rows of the weight");
  check(op, x, bias, n, activation);
  const int64_t k = x.size(x.dim() - 1), panels = ceil_div(n, PANEL);
  const bool wide = packed.scalar_type() == ScalarType::Float && packed.dim() == 3 && packed.size(1) == k;
  const bool pairs =
      is_half(packed) && packed.dim() == 4 && packed.size(1) == ceil_div(k, 2) && packed.size(3) == 2;
  if (!(packed.is_cpu() && (wide || pairs) && packed.size(0) == panels && packed.size(2) == PANEL))
    fail(op,
         "packed must be Float [" + std::to_string(panels) + ", " + std::to_string(k) +
             ", 64] or BFloat16 [" + std::to_string(panels) + ", " + std::to_string(ceil_div(k, 2)) +
             ", 64, 2] for K=" + std::to_string(k) + " and N=" + std::to_string(n),
         named(packed), "use opswap::pack_weight_float");
}

void check_w8(const Tensor &x, const Tensor &packed, const Tensor &scale, const std::optional<Tensor> &bias,
              const std::string &activation) {
  const char *const op = "linear_w8";
  check_tensor(op, "weight_scale", scale, ScalarType::Float, 1);
  const int64_t n = scale.size(0), panels = ceil_div(n, PANEL);
  check(op, x, bias, n, activation);
  check_tensor(op, "packed", packed, ScalarType::Char, 3);
  const int64_t k = x.size(x.dim() - 1);
  if (packed.size(0) != panels || packed.size(1) != k || packed.size(2) != PANEL)
    fail(op,
         "packed must have shape [" + std::to_string(panels) + ", " + std::to_string(k) +
             ", 64] for K=" + std::to_string(k) + " and N=" + std::to_string(n),
         shape_of(packed), "use opswap::pack_weight_w8");
}

// x as the packed weights want it: float32, or bfloat16 with an even number of columns.
Tensor converted(const Tensor &x, int64_t k, bool to_half) {
  const int64_t padded = to_half ? ceil_div(k, 2) * 2 : k, rows = x.numel() / k;
  if (is_half(x) == to_half && padded == k)
    return x;
  Tensor y = empty({rows, padded}, to_half ? ScalarType::BFloat16 : ScalarType::Float);
  const auto kernel = float_kernels_in_use().convert;
  const int64_t size = is_half(x) ? 2 : 4, out_size = to_half ? 2 : 4,
                block = ceil_div(ENOUGH_BYTES, k * size);
  for_each_task(ceil_div(rows, block), [&](int64_t task) {
    const int64_t first = task * block, count = std::min(block, rows - first);
    const Convert c{data<char>(x) + first * k * size,        count, k, padded, is_half(x), to_half,
                    out<char>(y) + first * padded * out_size};
    kernel(&c);
  });
  return y;
}

// `whole` describes the whole product; line: bytes of a panel for each step. Consecutive tasks share what is
// larger to fetch again: the panel where the weights outweigh the rows, else the rows.
void multiply(const FloatStrip &whole, void (*kernel)(const FloatStrip *), int64_t line) {
  const int64_t panels = ceil_div(whole.columns, PANEL), blocks = ceil_div(whole.rows, BLOCK);
  const int64_t panel_bytes = whole.steps * line, size = whole.narrow ? 2 : 4;
  const int64_t macs = std::max<int64_t>(1, std::min(BLOCK, whole.rows) * whole.steps * PANEL);
  const bool share_panel = whole.columns >= whole.rows;
  const int64_t steps = panels * blocks, grain = std::max<int64_t>(1, ENOUGH_MACS / macs);
  for_each_task(ceil_div(steps, grain), [&](int64_t task) {
    for (int64_t t = task * grain; t < std::min(steps, (task + 1) * grain); t++) {
      const int64_t panel = share_panel ? t / blocks : t % panels;
      const int64_t row = (share_panel ? t % blocks : t / panels) * BLOCK, n = panel * PANEL;
      FloatStrip s = whole;
      s.x = static_cast<const char *>(whole.x) + row * whole.x_stride * UNIT;
      s.rows = std::min(BLOCK, whole.rows - row);
      s.panel = static_cast<const char *>(whole.panel) + panel * panel_bytes;
      s.columns = std::min<int64_t>(PANEL, whole.columns - n);
      s.scale = whole.scale ? whole.scale + n : nullptr;
      s.bias = whole.bias ? whole.bias + n : nullptr;
      s.y = static_cast<char *>(whole.y) + (row * whole.out_stride + n) * size;
      const int64_t next = std::min(panel + 1, panels - 1);
      bring_near(whole.scale, next);
      bring_near(whole.bias, next);
      kernel(&s);
    }
  });
}

Tensor output_for(const Tensor &x, int64_t n) {
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() = n;
  return empty(sizes, x.scalar_type());
}

Tensor linear_float(const Tensor &x, const Tensor &packed, const std::optional<Tensor> &bias, int64_t n,
                    std::string activation) {
  check_float(x, packed, bias, n, activation);
  const int64_t k = x.size(x.dim() - 1);
  const bool half = is_half(packed);
  const Tensor rows = converted(dense(x), k, half), w = dense(packed);
  const std::optional<Tensor> add = dense(bias);
  Tensor y = output_for(x, n);
  const int64_t steps = half ? ceil_div(k, 2) : k;
  const FloatKernels &kernels = float_kernels_in_use();
  multiply(FloatStrip{data<char>(rows), steps, x.numel() / k, steps, data<char>(w), n, n, nullptr,
                      data<float>(add), end_of(activation), is_half(x), out<char>(y)},
           half ? kernels.bf16 : kernels.f32, LINE_BYTES);
  return y;
}

Tensor linear_w8(const Tensor &x, const Tensor &packed, const Tensor &weight_scale,
                 const std::optional<Tensor> &bias, std::string activation) {
  check_w8(x, packed, weight_scale, bias, activation);
  const int64_t k = x.size(x.dim() - 1), n = weight_scale.size(0);
  const Tensor rows = converted(dense(x), k, false), w = dense(packed), scale = dense(weight_scale);
  const std::optional<Tensor> add = dense(bias);
  Tensor y = output_for(x, n);
  multiply(FloatStrip{data<char>(rows), k, x.numel() / k, k, data<char>(w), n, n, data<float>(scale),
                      data<float>(add), end_of(activation), is_half(x), out<char>(y)},
           float_kernels_in_use().w8, PANEL);
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  serve<&linear_float>(m, "linear_float");
  serve<&linear_w8>(m, "linear_w8");
}
