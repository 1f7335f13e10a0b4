// All of a transformer's layer that looks at one token at a time: what follows attention, up to the next one.
// A block of rows goes through all its linears while it is in a core's cache, and no thread waits for another
// in between.
#include <algorithm>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "checks.h"
#include "dispatch.h"
#include "layer_norm.h"
#include "linear.h"
#include "pool.h"

namespace {

using Optional = std::optional<Tensor>;
using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

const char *const OP = "feed_forward_int8";
const int WIDE = 0, OWN = 2; // this thread's buffers: of a product, and of what is kept until the next one

// A linear layer, and how its results become bytes.
struct Step {
  Linear linear;
  Activation how;
};

struct Call {
  Rows a;
  Tensor residual;
  Step first, wide, second;
  bool by_tanh;
  LayerNorm first_norm, second_norm;
  std::optional<Linear> then;
  Tensor y;
  Rows rows; // of y, where they are a result
  bool quantize;
  Tensor z;
};

// Rows of a block in scratch memory: floats and bytes.
struct Kept {
  float *y, *scale;
  int32_t *zero_point;
  uint8_t *narrow, *wide;
};

Kept kept_of(const Call &c, int64_t rows) {
  const int64_t n = c.first.linear.n, wide = c.wide.linear.n;
  float *y = static_cast<float *>(scratch(OWN, rows * (4 * n + 8 + n + wide)));
  float *scale = y + rows * n;
  int32_t *zero_point = reinterpret_cast<int32_t *>(scale + rows);
  uint8_t *narrow = reinterpret_cast<uint8_t *>(zero_point + rows);
  return {y, scale, zero_point, narrow, narrow + rows * n};
}

Row row_in(const Kept &k, uint8_t *q, float *x, int64_t n, const Activation &how) {
  return {x, n, how.symmetric, how.scale, how.zero, q, k.scale, k.zero_point};
}

RowsAt made(const Row &r, int64_t rows) { return {r.q, r.scale, r.zero_point, rows, r.k}; }

void run_block(const Call &c, int64_t first, int64_t rows) {
  const int64_t n = c.first.linear.n, wide = c.wide.linear.n;
  float *x = static_cast<float *>(scratch(WIDE, rows * std::max(n, wide) * sizeof(float)));
  const Kept k = kept_of(c, rows);
  const auto gelu = kernels_in_use().gelu;

  const float *residual = data<float>(c.residual) + first * n;
  product(rows_at(c.a, first, rows), c.first.linear, x, residual, &c.wide.linear);
  const Row normed = row_in(k, k.narrow, k.y, n, c.first.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row to = row_at(&normed, i);
    normalize(c.first_norm, x + i * n, residual + i * n, k.y + i * n, count, n, &to);
  });

  product(made(normed, rows), c.wide.linear, x, nullptr, &c.second.linear);
  const Row widened = row_in(k, k.wide, x, wide, c.wide.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row to = row_at(&widened, i);
    gelu(x + i * wide, &to, count, c.by_tanh);
  });

  float *y = out<float>(c.y) + first * n;
  product(made(widened, rows), c.second.linear, x, y, c.then ? &*c.then : &c.first.linear);
  const Row last = c.quantize && !c.then ? row_of(c.rows, first, y, c.second.how)
                                         : row_in(k, k.narrow, y, n, c.second.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row to = row_at(&last, i);
    normalize(c.second_norm, x + i * n, k.y + i * n, y + i * n, count, n, c.quantize ? &to : nullptr);
  });

  if (!c.then)
    return;
  float *z = out<float>(c.z) + first * c.then->n;
  product(made(last, rows), *c.then, z, z, &c.first.linear);
}

void check_same(const char *what, int64_t got, int64_t wanted) {
  if (got != wanted)
    fail(OP, std::string(what) + " must have " + std::to_string(wanted) + " outputs", got, "fix it");
}

Five feed_forward_int8(const Tensor &q, const Tensor &scale, const Tensor &zero_point, const Tensor &packed1,
                       const Tensor &sum1, const Tensor &scale1, const Optional &bias1,
                       const Tensor &residual, const Tensor &gamma1, const Tensor &beta1, double eps1,
                       bool symmetric1, double fixed_scale1, int64_t fixed_zero1,
                       const Optional &smooth_scale1, const Optional &smooth_shift1, bool keeps_sum1,
                       const Tensor &packed2, const Tensor &sum2, const Tensor &scale2, const Optional &bias2,
                       bool symmetric2, double fixed_scale2, int64_t fixed_zero2, bool by_tanh2,
                       const Tensor &packed3, const Tensor &sum3, const Tensor &scale3, const Optional &bias3,
                       const Tensor &gamma3, const Tensor &beta3, double eps3, bool quantize, bool symmetric3,
                       double fixed_scale3, int64_t fixed_zero3, const Optional &smooth_scale3,
                       const Optional &smooth_shift3, bool keeps_sum3, const Optional &packed4,
                       const Optional &sum4, const Optional &scale4, const Optional &bias4) {
  const Rows a = checked_rows(OP, q, scale, zero_point);
  const Linear first = checked_linear(OP, packed1, sum1, scale1, bias1, a.k);
  const int64_t n = first.n;
  check_depth(OP, n);
  const Linear wide = checked_linear(OP, packed2, sum2, scale2, bias2, n);
  check_depth(OP, wide.n);
  const Linear second = checked_linear(OP, packed3, sum3, scale3, bias3, wide.n);
  check_same("the third linear", second.n, n);
  if (packed4.has_value() != sum4.has_value() || packed4.has_value() != scale4.has_value() ||
      (bias4 && !packed4) || (packed4 && !quantize))
    fail(OP, "the fourth linear must have packed, weight_sum and weight_scale, and rows to read", "a part",
         "pass all of them, with quantize, or none");
  std::optional<Linear> then;
  if (packed4)
    then = checked_linear(OP, *packed4, *sum4, *scale4, bias4, n);
  check_residual(OP, residual, a.m, n);
  const LayerNorm norm1 =
      checked_norm(OP, gamma1, beta1, eps1, smooth_scale1, smooth_shift1, true, keeps_sum1, n);
  const LayerNorm norm3 =
      checked_norm(OP, gamma3, beta3, eps3, smooth_scale3, smooth_shift3, quantize, keeps_sum3, n);
  const Call c{a,
               dense(residual),
               {first, checked_levels(OP, symmetric1, fixed_scale1, fixed_zero1)},
               {wide, checked_levels(OP, symmetric2, fixed_scale2, fixed_zero2)},
               {second, checked_levels(OP, symmetric3, fixed_scale3, fixed_zero3)},
               by_tanh2,
               norm1,
               norm3,
               then,
               empty({a.m, n}, ScalarType::Float),
               empty_rows(quantize && !then ? a.m : 0, n),
               quantize,
               empty({then ? a.m : 0, then ? then->n : 0}, ScalarType::Float)};
  in_blocks(a.m, std::max(n, wide.n), [&](int64_t at, int64_t rows) { run_block(c, at, rows); });
  return {c.y, c.rows.q, c.rows.scale, c.rows.zero_point, c.z};
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { m.impl("feed_forward_int8", TORCH_BOX(&feed_forward_int8)); }
