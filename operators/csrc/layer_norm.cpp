#include "layer_norm.h"

#include <algorithm>

#include "dispatch.h"
#include "pool.h"

namespace {

const int NEAR = 1; // the buffer of this thread's own for rows that only bytes are made of; 0 is the block's
const int64_t SOME = 4; // of them that there is room for

} // namespace

LayerNorm checked_norm(const char *op, const Tensor &gamma, const Tensor &beta, double eps,
                       const std::optional<Tensor> &smooth_scale, const std::optional<Tensor> &smooth_shift,
                       bool quantize, bool keeps_sum, bool rms, int64_t n) {
  check_vector(op, "gamma", gamma, ScalarType::Float, n);
  check_vector(op, "beta", beta, ScalarType::Float, n);
  if (smooth_scale.has_value() != smooth_shift.has_value())
    fail(op, "smooth_scale and smooth_shift must come together", "one of them", "pass both or none");
  if (smooth_scale) {
    check_vector(op, "smooth_scale", *smooth_scale, ScalarType::Float, n);
    check_vector(op, "smooth_shift", *smooth_shift, ScalarType::Float, n);
  }
  if (keeps_sum && !quantize)
    fail(op, "keeps_sum must come with quantize", "keeps_sum alone", "add the residual without a norm");
  std::vector<Tensor> held{dense(gamma), dense(beta)};
  if (smooth_scale)
    held.insert(held.end(), {dense(*smooth_scale), dense(*smooth_shift)});
  return {data<float>(held[0]),
          data<float>(held[1]),
          static_cast<float>(eps),
          smooth_scale ? data<float>(held[2]) : nullptr,
          smooth_scale ? data<float>(held[3]) : nullptr,
          keeps_sum,
          rms,
          held};
}

void check_residual(const char *op, const Tensor &residual, int64_t m, int64_t n) {
  check_tensor(op, "residual", residual, ScalarType::Float, 2);
  if (residual.size(0) != m || residual.size(1) != n)
    fail(op, "residual must be [" + std::to_string(m) + ", " + std::to_string(n) + "]", shape_of(residual),
         "reshape it");
}

void normalize(const LayerNorm &norm, const float *x, const float *residual, float *y, int64_t count,
               int64_t n, const Row *to) {
  const auto kernel = kernels_in_use().norm;
  Norm first{x, residual, norm.gamma, norm.beta, norm.eps, norm.rms, n, y, y, nullptr, nullptr, nullptr};
  if (!to)
    return kernel(&first, nullptr, count);
  Row bytes = *to;
  bytes.x = y;
  if (!norm.smooth_scale && !norm.keeps_sum)
    return kernel(&first, &bytes, count);
  first.smooth_scale = norm.smooth_scale, first.smooth_shift = norm.smooth_shift;
  float *near = static_cast<float *>(scratch(NEAR, SOME * n * sizeof(float)));
  for (int64_t i = 0; i < count; i += SOME) { // what only becomes bytes stays in the L1 cache
    Norm some = norm_at(&first, i);
    Row their = row_at(&bytes, i);
    their.x = near;
    some.y = norm.keeps_sum ? near : some.y;
    some.smoothed = norm.smooth_scale ? near : nullptr;
    kernel(&some, &their, std::min(SOME, count - i));
  }
}
