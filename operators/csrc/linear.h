// What the operators around an int8 linear layer share: its operands, checked, and the walk over its output.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checks.h"
#include "kernels.h"
#include "tensors.h"

const int64_t ENOUGH_ROWS = 16; // rows that are worth handing to another thread

// Quantized rows: q uint8 [m, k], scale float [m], zero_point int32 [m].
struct Rows {
  Tensor q, scale, zero_point;
  int64_t m, k;
};

// A packed weight [n, k] with all that turns its sums into floats; bias may be null.
struct Linear {
  const int8_t *packed;
  const int32_t *weight_sum;
  const float *weight_scale, *bias;
  int64_t n, k;
  std::vector<Tensor> held; // what this is in, where it must be kept
};

// Throw one line where the operands do not fit each other; they make everything contiguous.
Rows checked_rows(const char *op, const Tensor &q, const Tensor &scale, const Tensor &zero_point);
Linear checked_linear(const char *op, const Tensor &packed, const Tensor &weight_sum,
                      const Tensor &weight_scale, const std::optional<Tensor> &bias, int64_t k);

// Rows as above, in any memory.
struct RowsAt {
  const uint8_t *q;
  const float *scale;
  const int32_t *zero_point;
  int64_t m, k;
};

RowsAt rows_at(const Rows &a, int64_t first, int64_t rows);

// The whole product of a and w as a strip that writes y [m, n].
Strip whole_product(const RowsAt &a, const Linear &w, float *y);

// `whole` from row `first` on, `rows` rows; and of those, one panel. y moves along with its own stride.
Strip rows_of(const Strip &whole, int64_t first, int64_t rows);
Strip panel_of(const Strip &strip, int64_t panel);

// Asks for what turns the sums of `panel` into floats.
void bring_columns(const Strip &whole, int64_t panel);

// y [m, n] = linear(a), panel after panel; where no thread is at work, each takes some of the panels. near
// [m, n]: what is not in this core's cache yet and used as soon as this: y itself, or what is added to it; or
// null. after: the weights that come next; or null. stride: from a row of y to the next; 0: n.
void product(const RowsAt &a, const Linear &w, float *y, const float *near = nullptr,
             const Linear *after = nullptr, int64_t stride = 0);

// Calls what(first, rows) for blocks of m rows, shared by the threads, whose floats fit a core's cache where
// they are at most `widest` wide. Few rows are one block, for which the threads share each product and each
// row's end instead, so that all of them stream weights.
void in_blocks(int64_t m, int64_t widest, const std::function<void(int64_t first, int64_t rows)> &what);

// Calls what(first, rows) for a few of a block's rows at a time, shared by the threads; for all of them from
// a task.
void in_pieces(int64_t rows, const std::function<void(int64_t first, int64_t rows)> &what);

Rows empty_rows(int64_t m, int64_t k);

// The rows of r from `to` on, to be made from x.
Row row_of(const Rows &r, int64_t to, const float *x, const Activation &how);
