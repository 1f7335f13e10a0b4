#include "linear.h"

#include <algorithm>
#include <vector>

#include "checks.h"
#include "dispatch.h"
#include "near.h"
#include "pool.h"

namespace {

const int64_t BLOCK = 66;              // rows of a block, a multiple of the tile heights
const int64_t FEW = 12;                // fewer rows than this for each thread: the panels are split instead
const int64_t SOME = 8;                // rows that are finished together
const int64_t STRIP_BYTES = 832 << 10; // a block's floats should leave room for a panel in a core's own cache

int64_t block_rows(int64_t m, int64_t n) {
  const int64_t fits = std::max<int64_t>(6, STRIP_BYTES / (4 * std::max<int64_t>(1, n)) / 6 * 6);
  const int64_t most = std::min(BLOCK, fits), share = ceil_div(m, threads());
  return ceil_div(share, ceil_div(share, most)); // as many blocks for each thread, of like size
}

} // namespace

Rows checked_rows(const char *op, const Tensor &q, const Tensor &scale, const Tensor &zero_point) {
  check_tensor(op, "q", q, ScalarType::Byte, 2);
  check_depth(op, q.size(1));
  check_vector(op, "scale", scale, ScalarType::Float, q.size(0));
  check_vector(op, "zero_point", zero_point, ScalarType::Int, q.size(0));
  return {dense(q), dense(scale), dense(zero_point), q.size(0), q.size(1)};
}

Linear checked_linear(const char *op, const Tensor &packed, const Tensor &weight_sum,
                      const Tensor &weight_scale, const std::optional<Tensor> &bias, int64_t k) {
  check_packed(op, packed, k, weight_sum);
  const int64_t n = weight_sum.size(0);
  check_vector(op, "weight_scale", weight_scale, ScalarType::Float, n);
  if (bias)
    check_vector(op, "bias", *bias, ScalarType::Float, n);
  std::vector<Tensor> held{dense(packed), dense(weight_sum), dense(weight_scale)};
  if (bias)
    held.push_back(dense(*bias));
  return {data<int8_t>(held[0]),
          data<int32_t>(held[1]),
          data<float>(held[2]),
          bias ? data<float>(held[3]) : nullptr,
          n,
          k,
          held};
}

RowsAt rows_at(const Rows &a, int64_t first, int64_t rows) {
  return {data<uint8_t>(a.q) + first * a.k, data<float>(a.scale) + first, data<int32_t>(a.zero_point) + first,
          rows, a.k};
}

Strip whole_product(const RowsAt &a, const Linear &w, float *y) {
  return Strip{a.q, a.k, a.m,     a.k, a.zero_point, w.packed,       nullptr, w.weight_sum,
               w.n, w.n, nullptr, y,   a.scale,      w.weight_scale, w.bias,  nullptr};
}

Strip rows_of(const Strip &whole, int64_t first, int64_t rows) {
  Strip s = whole;
  s.rows = rows;
  s.q += first * s.q_stride;
  s.zero_point += first;
  if (s.acc)
    s.acc += first * s.out_stride;
  s.near = s.near ? s.near + first * s.out_stride : nullptr;
  if (s.y) {
    s.y += first * s.out_stride;
    s.scale += first;
  }
  return s;
}

Strip panel_of(const Strip &strip, int64_t panel) {
  Strip s = strip;
  const int64_t n = panel * PANEL;
  s.columns = std::min<int64_t>(PANEL, s.columns - n);
  const int64_t bytes = ceil_div(s.k, GROUP) * GROUP * PANEL;
  s.panel += panel * bytes;
  s.next = n + PANEL < strip.columns ? s.panel + bytes : strip.panel; // the first again, for the next rows
  s.weight_sum += n;
  if (s.acc)
    s.acc += n;
  s.near = s.near ? s.near + n : nullptr;
  if (s.y) {
    s.y += n;
    s.weight_scale += n;
    s.bias = s.bias ? s.bias + n : nullptr;
  }
  return s;
}

void bring_columns(const Strip &whole, int64_t panel) {
  bring_near(whole.weight_sum, panel);
  bring_near(whole.weight_scale, panel);
  bring_near(whole.bias, panel);
}

Rows empty_rows(int64_t m, int64_t k) {
  return {empty({m, k}, ScalarType::Byte), empty({m}, ScalarType::Float), empty({m}, ScalarType::Int), m, k};
}

Row row_of(const Rows &r, int64_t to, const float *x, const Activation &how) {
  return {x,
          r.k,
          how.symmetric,
          how.scale,
          how.zero,
          how.rotation,
          out<uint8_t>(r.q) + to * r.k,
          out<float>(r.scale) + to,
          out<int32_t>(r.zero_point) + to};
}

void product(const RowsAt &a, const Linear &w, float *y, const float *near, const Linear *after,
             int64_t stride) {
  const auto gemm = kernels_in_use().gemm;
  Strip whole = whole_product(a, w, y);
  whole.near = near;
  whole.out_stride = stride ? stride : w.n;
  const int64_t panels = ceil_div(w.n, PANEL);
  for_each_task(panels, [&](int64_t p) {
    Strip s = panel_of(whole, p);
    const bool last = p + 1 == panels;
    if (last && after)
      s.next = after->packed;
    bring_columns(last && after ? whole_product(a, *after, nullptr) : whole, last ? 0 : p + 1);
    gemm(&s);
  });
}

void in_blocks(int64_t m, int64_t widest, const std::function<void(int64_t, int64_t)> &what) {
  if (m < FEW * threads())
    return what(0, m);
  const int64_t most = block_rows(m, widest);
  for_each_task(ceil_div(m, most), [&](int64_t task) {
    const int64_t first = task * most;
    what(first, std::min(most, m - first));
  });
}

void in_pieces(int64_t rows, const std::function<void(int64_t, int64_t)> &what) {
  if (inside_a_task())
    return what(0, rows);
  for_each_task(ceil_div(rows, SOME), [&](int64_t task) {
    const int64_t first = task * SOME;
    what(first, std::min(SOME, rows - first));
  });
}
