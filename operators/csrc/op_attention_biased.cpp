// opswap::attention_biased for CPU tensors: every head of every sequence is one task.
#include <string>

#include <torch/csrc/stable/library.h>

#include "attention_checks.h"
#include "attention_dispatch.h"
#include "attention_table.h"
#include "calls.h"
#include "float.h"
#include "pool.h"
#include "tensors.h"

namespace {

const char *const OP = "attention_biased";

// bias is [B or 1, heads or 1, S or 1, S], and qkv has B S rows.
void check(const Tensor &qkv, const Tensor &bias, int64_t heads, double scale) {
  check_heads(OP, qkv, heads, scale);
  check_tensor(OP, "bias", bias, ScalarType::Float, 4);
  const int64_t length = bias.size(3), rows = qkv.size(0);
  const auto fits = [&](int64_t dim, int64_t want) { return bias.size(dim) == 1 || bias.size(dim) == want; };
  const bool whole = length > 0 && rows % length == 0;
  if (!(whole && fits(0, rows / length) && fits(1, heads) && fits(2, length)))
    fail(OP,
         "bias must be [batch or 1, " + std::to_string(heads) +
             " or 1, length or 1, length] for qkv of batch * length = " + std::to_string(rows) + " rows",
         shape_of(bias), "expand it");
}

Tensor attention_biased(const Tensor &qkv, const Tensor &bias, int64_t heads, double scale, bool precise) {
  check(qkv, bias, heads, scale);
  const Attention &kernel = attention_in_use(precise);
  const Tensor x = with_dense_rows(qkv), added = bias.stride(3) == 1 ? bias : dense(bias);
  const int64_t length = bias.size(3), h = qkv.size(1) / 3, d = h / heads, stride = x.stride(0);
  const int bf16 = x.scalar_type() == ScalarType::BFloat16;
  const int64_t element = bf16 ? 2 : 4;
  const AttentionBytes bytes = kernel.bytes(length, d);
  Tensor y = empty({qkv.size(0), h}, ScalarType::Float);
  const char *from = data<char>(x);
  const float *plus = data<float>(added);
  float *to = out<float>(y);
  for_each_task(qkv.size(0) / length * heads, [&](int64_t task) {
    const int64_t sequence = task / heads, head = task % heads;
    const char *q = from + (sequence * length * stride + head * d) * element;
    char *own = static_cast<char *>(scratch(0, bytes.packed + bytes.work));
    const float *own_bias = plus + sequence * step_along(added, 0) + head * step_along(added, 1);
    const Head one{q,
                   q + h * element,
                   q + 2 * h * element,
                   bf16,
                   bf16,
                   stride,
                   stride,
                   d,
                   static_cast<float>(scale),
                   nullptr,
                   length,
                   0,
                   0,
                   own,
                   own_bias,
                   step_along(added, 2)};
    kernel.pack(&one);
    const Rows rows{0, length, to + sequence * length * h + head * d, h, own + bytes.packed, nullptr};
    kernel.attend(&one, &rows);
  });
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { serve<&attention_biased>(m, "attention_biased"); }
