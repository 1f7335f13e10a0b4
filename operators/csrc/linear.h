// What the operators around an int8 linear layer share: its operands, checked, and the walk over its output.
#pragma once

#include <functional>
#include <string>

#include "checks.h"
#include "kernels.h"
#include "tensors.h"

// Quantized rows: q uint8 [m, k], scale float [m], zero_point int32 [m].
struct Rows {
  Tensor q, scale, zero_point;
  int64_t m, k;
};

// A packed weight [n, k] with all that turns its sums into floats.
struct Linear {
  Tensor packed, weight_sum, weight_scale;
  std::optional<Tensor> bias;
  int64_t n, k;
};

// Throw one line where the operands do not fit each other; they make everything contiguous.
Rows checked_rows(const char *op, const Tensor &q, const Tensor &scale, const Tensor &zero_point);
Linear checked_linear(const char *op, const Tensor &packed, const Tensor &weight_sum,
                      const Tensor &weight_scale, const std::optional<Tensor> &bias, int64_t k);

// The whole product of a and w as a strip that writes y [m, n].
Strip whole_product(const Rows &a, const Linear &w, float *y);

// `whole` from row `first` on, `rows` rows; and of those, one panel. y moves along with its own stride.
Strip rows_of(const Strip &whole, int64_t first, int64_t rows);
Strip panel_of(const Strip &strip, int64_t panel);

Rows empty_rows(int64_t m, int64_t k);

// Row `to` of r, to be made from x.
Row row_of(const Rows &r, int64_t to, const float *x, const Activation &how);

// A block of output rows, in float, while it is in the cache.
struct Block {
  int64_t first, rows;
  float *y; // [rows, n]
  int64_t n;
};

// linear(a) in blocks of rows; `done` is called with each. Few rows are split over the panels instead, so
// that all threads stream weights.
void in_blocks(const Rows &a, const Linear &w, const std::function<void(const Block &)> &done);
