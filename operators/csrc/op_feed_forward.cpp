// All of a transformer's layer that looks at one token at a time: what follows attention, up to the next one.
// A block of rows goes through all its linears while it is in a core's cache, and no thread waits for another
// in between.
#include "feed_forward.h"

#include <algorithm>
#include <tuple>

#include "calls.h"
#include "checks.h"
#include "dispatch.h"
#include "pool.h"

namespace {

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

const int WIDE = 0, OWN = 2; // this thread's buffers: of a product, and of what is kept until the next one

// Rows of a block in scratch memory: floats and bytes.
struct Kept {
  float *y, *scale;
  int32_t *zero_point;
  uint8_t *narrow, *wide;
};

Kept kept_of(const FeedForward &f, int64_t rows) {
  const int64_t n = f.first.linear.n, narrow = std::max(n, f.first.linear.k), wide = f.wide.linear.n;
  float *y = static_cast<float *>(scratch(OWN, rows * (4 * n + 8 + narrow + wide)));
  float *scale = y + rows * n;
  int32_t *zero_point = reinterpret_cast<int32_t *>(scale + rows);
  uint8_t *bytes = reinterpret_cast<uint8_t *>(zero_point + rows);
  return {y, scale, zero_point, bytes, bytes + rows * narrow};
}

Row row_in(const Kept &k, uint8_t *q, const float *x, int64_t n, const Activation &how) {
  return {x, n, how.symmetric, how.scale, how.zero, how.rotation, q, k.scale, k.zero_point};
}

RowsAt made(const Row &r, int64_t rows) { return {r.q, r.scale, r.zero_point, rows, r.k}; }

// Asks for all of the rows at once. They were made long ago, or by another core: the first panel of weights
// would wait for one line after the other.
RowsAt near(const RowsAt &a) {
  for (int64_t i = 0; i < a.m * a.k; i += 64)
    __builtin_prefetch(a.q + i, 0, 2);
  return a;
}

// A block's rows, made here where they are not yet.
RowsAt rows_read(const Through &t, const Kept &k, int64_t first, int64_t rows) {
  if (!t.floats)
    return near(rows_at(t.a, first, rows));
  const Row all = row_in(k, k.narrow, t.floats + first * t.a.k, t.a.k, t.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row some = row_at(&all, i);
    kernels_in_use().quantize(&some, count);
  });
  return made(all, rows);
}

void run_block(const FeedForward &f, const Through &t, int64_t first, int64_t rows) {
  const int64_t n = f.first.linear.n, wide = f.wide.linear.n;
  float *x = static_cast<float *>(scratch(WIDE, rows * std::max(n, wide) * sizeof(float)));
  const Kept k = kept_of(f, rows);
  const auto gelu = kernels_in_use().gelu;

  const float *residual = t.residual + first * n;
  product(rows_read(t, k, first, rows), f.first.linear, x, residual, &f.wide.linear);
  const Row normed = row_in(k, k.narrow, k.y, n, f.first.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row to = row_at(&normed, i);
    normalize(f.first_norm, x + i * n, residual + i * n, k.y + i * n, count, n, &to);
  });

  product(made(normed, rows), f.wide.linear, x, nullptr, &f.second.linear);
  const Row widened = row_in(k, k.wide, x, wide, f.wide.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row to = row_at(&widened, i);
    gelu(x + i * wide, &to, count, f.by_tanh);
  });

  float *y = t.y + first * n;
  product(made(widened, rows), f.second.linear, x, y, f.then ? &*f.then : &f.first.linear);
  const Row last = f.quantize && !f.then ? row_of(t.rows, first, y, f.second.how)
                                         : row_in(k, k.narrow, y, n, f.second.how);
  in_pieces(rows, [&](int64_t i, int64_t count) {
    const Row to = row_at(&last, i);
    normalize(f.second_norm, x + i * n, k.y + i * n, y + i * n, count, n, f.quantize ? &to : nullptr);
  });

  if (!f.then)
    return;
  float *z = t.z + first * t.z_stride;
  product(made(last, rows), *f.then, z, z, &f.first.linear, t.z_stride);
}

Five feed_forward_int8(const Tensor &q, const Tensor &scale, const Tensor &zero_point, const Tensor &residual,
                       const Tensor &layer, bool quantize, int64_t then) {
  const char *const op = "feed_forward_int8";
  const Rows a = checked_rows(op, q, scale, zero_point);
  const FeedForward f = feed_forward_of(op, layer, a.k);
  check_results(op, f, quantize, then);
  const int64_t n = f.first.linear.n;
  check_residual(op, residual, a.m, n);
  const Tensor added = dense(residual), y = empty({a.m, n}, ScalarType::Float);
  const Rows rows = empty_rows(quantize ? a.m : 0, n);
  const Tensor z = empty({then ? a.m : 0, then}, ScalarType::Float);
  run(f, {a, nullptr, {}, data<float>(added), out<float>(y), rows, out<float>(z), then});
  return {y, rows.q, rows.scale, rows.zero_point, z};
}

} // namespace

void check_results(const char *op, const FeedForward &f, bool quantize, int64_t then) {
  const int64_t have = f.then ? f.then->n : 0;
  if (quantize != (f.quantize && !f.then) || then != have)
    fail(op, "quantize and then must say what the layer makes", then, "pass what pack_layer was given");
}

void run(const FeedForward &f, const Through &t) {
  in_blocks(t.a.m, std::max(f.first.linear.n, f.wide.linear.n),
            [&](int64_t first, int64_t rows) { run_block(f, t, first, rows); });
}

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { serve<&feed_forward_int8>(m, "feed_forward_int8"); }
