// Layer normalization as the operators that end in it take it: checked, and done row by row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checks.h"
#include "linear.h"

// gamma, beta and eps of a layer normalization over n values; and, for the rows that are made of its result,
// result * smooth_scale + smooth_shift is what becomes bytes where there are these two. keeps_sum: its result
// is read as bytes alone, and what was normalized is kept in its place. rms: the mean is not subtracted
// (RMSNorm).
struct LayerNorm {
  const float *gamma, *beta;
  float eps;
  const float *smooth_scale, *smooth_shift; // both or none
  bool keeps_sum, rms;
  std::vector<Tensor> held; // what this is in, where it must be kept
};

// Throws one line where they do not fit n, one of smooth_scale and smooth_shift comes without the other, or a
// sum is to be kept where nothing becomes bytes.
LayerNorm checked_norm(const char *op, const Tensor &gamma, const Tensor &beta, double eps,
                       const std::optional<Tensor> &smooth_scale, const std::optional<Tensor> &smooth_shift,
                       bool quantize, bool keeps_sum, bool rms, int64_t n);

// Throws one line where residual is not float [m, n].
void check_residual(const char *op, const Tensor &residual, int64_t m, int64_t n);

// `count` rows of x (and the residual), each of n values, normalized into y, or their sum in it where that is
// kept; then their bytes, into `to` where it is not null, whose x is found here.
void normalize(const LayerNorm &norm, const float *x, const float *residual, float *y, int64_t count,
               int64_t n, const Row *to);
