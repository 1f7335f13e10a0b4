// The operators for CPU tensors, over the stable ABI: check, allocate, split the work over torch's threads.
// Every output element is computed by one call of one kernel, so results do not depend on the thread count.
#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "checks.h"
#include "dispatch.h"

namespace {

const int64_t BLOCK = 48;             // rows of one task: a multiple of the tile heights
const int64_t ENOUGH_BYTES = 1 << 15; // less work than this is not worth waking another thread
const int64_t ENOUGH_MACS = 1 << 19;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

Tensor empty(std::vector<int64_t> sizes, ScalarType type) { return torch::stable::empty(sizes, type); }

Tensor dense(const Tensor &t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

template <class T>
const T *data(const Tensor &t) {
  return static_cast<const T *>(t.data_ptr());
}

template <class T>
T *out(const Tensor &t) {
  return static_cast<T *>(t.data_ptr());
}

struct Quantized {
  Tensor q, scale, zero_point; // q: [M, stride]
};

// x: contiguous, rows of k
Quantized quantize(const Tensor &x, int64_t k, int64_t stride, bool symmetric) {
  const int64_t m = x.numel() / k;
  Quantized r{empty({m, stride}, ScalarType::Byte), empty({m}, ScalarType::Float),
              empty({m}, ScalarType::Int)};
  const auto kernel = kernels_in_use().quantize;
  const float *from = data<float>(x);
  uint8_t *q = out<uint8_t>(r.q);
  float *scale = out<float>(r.scale);
  int32_t *zero = out<int32_t>(r.zero_point);
  torch::stable::parallel_for(0, m, std::max<int64_t>(1, ENOUGH_BYTES / k), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      const Row row{from + i * k, k, stride, symmetric, q + i * stride, scale + i, zero + i};
      kernel(&row);
    }
  });
  return r;
}

// `whole` describes the whole product, [rows, columns]; tasks are blocks of rows of one panel. Consecutive
// tasks share what is larger to fetch again: the panel where the weights outweigh the rows, so that each
// thread keeps to its own panels; else the rows, so that the weights stay in the cache and whole rows are
// written.
void multiply(const Strip &whole) {
  const auto kernel = kernels_in_use().gemm;
  const int64_t panels = ceil_div(whole.columns, PANEL), blocks = ceil_div(whole.rows, BLOCK);
  const int64_t panel_bytes = ceil_div(whole.k, GROUP) * GROUP * PANEL;
  const int64_t task_macs = std::min(BLOCK, whole.rows) * panel_bytes;
  const bool share_panel = panels * panel_bytes >= whole.rows * whole.k;
  const int64_t grain = std::max<int64_t>(1, ENOUGH_MACS / std::max<int64_t>(1, task_macs));
  torch::stable::parallel_for(0, panels * blocks, grain, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const int64_t panel = share_panel ? t / blocks : t % panels;
      const int64_t row = (share_panel ? t % blocks : t / panels) * BLOCK, n = panel * PANEL;
      Strip s = whole;
      s.rows = std::min(BLOCK, whole.rows - row);
      s.columns = std::min<int64_t>(PANEL, whole.columns - n);
      s.q += row * s.q_stride;
      s.zero_point += row;
      s.panel += panel * panel_bytes;
      s.weight_sum += n;
      if (s.acc)
        s.acc += row * s.out_stride + n;
      if (s.y) {
        s.y += row * s.out_stride + n;
        s.scale += row;
        s.weight_scale += n;
        s.bias = s.bias ? s.bias + n : nullptr;
      }
      kernel(&s);
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> quantize_per_token(const Tensor &x, bool symmetric) {
  check_activation("quantize_per_token", x);
  const int64_t k = x.size(x.dim() - 1);
  Quantized r = quantize(dense(x), k, k, symmetric);
  return {r.q, r.scale, r.zero_point};
}

Tensor int8_matmul(const Tensor &q, const Tensor &zero_point, const Tensor &packed,
                   const Tensor &weight_sum) {
  const std::string op = "int8_matmul";
  check_tensor(op + ": q", q, ScalarType::Byte, 2);
  check_depth(op, q.size(1));
  check_vector(op + ": zero_point", zero_point, ScalarType::Int, q.size(0));
  check_packed(op, packed, q.size(1), weight_sum);
  const int64_t m = q.size(0), k = q.size(1), n = weight_sum.size(0);
  const Tensor from = dense(q), zero = dense(zero_point), w = dense(packed), sum = dense(weight_sum);
  Tensor acc = empty({m, n}, ScalarType::Int);
  multiply(Strip{data<uint8_t>(from), k, m, k, data<int32_t>(zero), data<int8_t>(w), data<int32_t>(sum), n, n,
                 out<int32_t>(acc), nullptr, nullptr, nullptr, nullptr});
  return acc;
}

Tensor linear_int8(const Tensor &x, const Tensor &packed, const Tensor &weight_sum,
                   const Tensor &weight_scale, const std::optional<Tensor> &bias, bool symmetric) {
  const std::string op = "linear_int8";
  check_activation(op, x);
  const int64_t k = x.size(x.dim() - 1), n = weight_sum.dim() ? weight_sum.size(0) : 0;
  check_packed(op, packed, k, weight_sum);
  check_vector(op + ": weight_scale", weight_scale, ScalarType::Float, n);
  if (bias)
    check_vector(op + ": bias", *bias, ScalarType::Float, n);
  const Tensor w = dense(packed), sum = dense(weight_sum), scale = dense(weight_scale);
  const std::optional<Tensor> add = bias ? std::optional<Tensor>(dense(*bias)) : std::nullopt;
  const int64_t padded = ceil_div(k, GROUP) * GROUP; // whole groups: the kernels then have no tail
  const Quantized a = quantize(dense(x), k, padded, symmetric);
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() = n;
  Tensor y = empty(sizes, ScalarType::Float);
  multiply(Strip{data<uint8_t>(a.q), padded, x.numel() / k, padded, data<int32_t>(a.zero_point),
                 data<int8_t>(w), data<int32_t>(sum), n, n, nullptr, out<float>(y), data<float>(a.scale),
                 data<float>(scale), add ? data<float>(*add) : nullptr});
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  m.impl("quantize_per_token", TORCH_BOX(&quantize_per_token));
  m.impl("int8_matmul", TORCH_BOX(&int8_matmul));
  m.impl("linear_int8", TORCH_BOX(&linear_int8));
}
