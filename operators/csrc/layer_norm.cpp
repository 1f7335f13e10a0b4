#include "layer_norm.h"

#include "dispatch.h"
#include "pool.h"

namespace {

const int SMOOTHED = 1; // the buffer of this thread's own for a smoothed row; 0 is the block of rows

}

LayerNorm checked_norm(const char *op, const Tensor &gamma, const Tensor &beta, double eps,
                       const std::optional<Tensor> &smooth_scale, const std::optional<Tensor> &smooth_shift,
                       int64_t n) {
  check_vector(op, "gamma", gamma, ScalarType::Float, n);
  check_vector(op, "beta", beta, ScalarType::Float, n);
  if (smooth_scale.has_value() != smooth_shift.has_value())
    fail(op, "smooth_scale and smooth_shift must come together", "one of them", "pass both or none");
  if (smooth_scale) {
    check_vector(op, "smooth_scale", *smooth_scale, ScalarType::Float, n);
    check_vector(op, "smooth_shift", *smooth_shift, ScalarType::Float, n);
  }
  return {dense(gamma), dense(beta), static_cast<float>(eps), dense(smooth_scale), dense(smooth_shift)};
}

void normalize(const LayerNorm &norm, const float *x, const float *residual, float *y, int64_t n, int64_t at,
               const Rows *to, const Activation &how) {
  Norm row{x,       residual, data<float>(norm.gamma), data<float>(norm.beta), norm.eps, n, y, nullptr,
           nullptr, nullptr};
  if (!to)
    return kernels_in_use().norm(&row, nullptr);
  if (norm.smooth_scale) {
    row.smooth_scale = data<float>(norm.smooth_scale), row.smooth_shift = data<float>(norm.smooth_shift);
    row.smoothed = static_cast<float *>(scratch(SMOOTHED, n * sizeof(float)));
  }
  const Row bytes = row_of(*to, at, row.smoothed ? row.smoothed : y, how);
  kernels_in_use().norm(&row, &bytes);
}
