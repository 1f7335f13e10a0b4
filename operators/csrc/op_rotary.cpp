// opswap::rotary for CPU tensors: heads turned by the position of their token, a few rows a task.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "calls.h"
#include "checks.h"
#include "dispatch.h"
#include "linear.h"
#include "pool.h"

namespace {

const char *const OP = "rotary";
const char *const ADVICE = "convert, reshape or cut it";

bool is_float(const Tensor &one) {
  const ScalarType type = one.scalar_type();
  return type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half;
}

Tensor in_float32(const Tensor &one) {
  return dense(one.scalar_type() == ScalarType::Float ? one : torch::stable::to(one, ScalarType::Float));
}

void check_angles(const char *name, const Tensor &one, const Tensor &like, const Tensor &x, int64_t size,
                  bool placed) {
  const int64_t dims = x.dim();
  bool fits = one.is_cpu() && is_float(one) && one.scalar_type() == like.scalar_type() && one.dim() == dims;
  for (int64_t dim = 0; fits && dim < dims; dim++)
    fits = one.size(dim) == like.size(dim);
  const int64_t r = fits ? one.size(dims - 1) : 1;
  fits =
      fits && r % 2 == 0 && r <= size && (placed ? one.size(0) > 0 : one.size(dims - 2) == x.size(dims - 2));
  if (fits && (dims == 2 || one.size(0) == 1 || one.size(0) == x.size(0)))
    return;
  std::string rows = placed ? "S" : std::to_string(x.size(0));
  if (dims == 3)
    rows += " or 1, " + std::to_string(x.size(1));
  fail(OP,
       std::string(name) + " must be Float or of 16 bits on the CPU [" + rows + ", r], r even and at most " +
           std::to_string(size),
       named(one), ADVICE);
}

void check(const Tensor &x, const Tensor &cos, const Tensor &sin, int64_t size, int64_t turned,
           const std::optional<Tensor> &places, const std::optional<Tensor> &weight) {
  if (!x.is_cpu() || !is_float(x) || (x.dim() != 2 && x.dim() != 3))
    fail(OP, "x must be Float or of 16 bits on the CPU, [T, W] or [B, S, W]", named(x), ADVICE);
  const int64_t columns = x.size(x.dim() - 1);
  if (size <= 0 || columns % size)
    fail(OP, "size must divide the " + std::to_string(columns) + " columns of x", size, ADVICE);
  if (turned < 0 || turned > columns / size)
    fail(OP, "turned must lie in 0.." + std::to_string(columns / size) + ", the heads of x", turned, ADVICE);
  if (places && x.dim() != 2)
    fail(OP, "places must be int64 [T], of x [T, W]", named(x), "pass what pack_tokens returned");
  if (places)
    check_vector(OP, "places", *places, ScalarType::Long, x.size(0));
  check_angles("cos", cos, cos, x, size, places.has_value());
  check_angles("sin", sin, cos, x, size, places.has_value());
  if (weight)
    check_vector(OP, "weight", *weight, ScalarType::Float, turned * size);
}

Tensor rotary(const Tensor &x, const Tensor &cos, const Tensor &sin, int64_t size, int64_t turned,
              bool interleaved, const std::optional<Tensor> &places, const std::optional<Tensor> &weight,
              double eps) {
  check(x, cos, sin, size, turned, places, weight);
  const Tensor from = in_float32(x), c = in_float32(cos), s = in_float32(sin);
  const int64_t dims = x.dim(), columns = x.size(dims - 1), r = cos.size(dims - 1);
  const int64_t rows = dims == 2 ? x.size(0) : x.size(0) * x.size(1);
  const int64_t angles = dims == 2 ? cos.size(0) : cos.size(0) * cos.size(1); // for all, or for some again
  const std::optional<Tensor> given = dense(places);
  const int64_t *const place = data<int64_t>(given);
  const std::optional<Tensor> gains = dense(weight);
  for (int64_t row = 0; place && row < rows; row++)
    if (place[row] < 0)
      fail(OP, "places must be 0 or more", place[row], "pass what pack_tokens returned");
  Tensor y = dims == 2 ? empty({rows, columns}, ScalarType::Float)
                       : empty({x.size(0), x.size(1), columns}, ScalarType::Float);
  const Heads all{data<float>(from),
                  columns,
                  size,
                  turned,
                  r,
                  interleaved,
                  data<float>(gains),
                  static_cast<float>(eps),
                  data<float>(c),
                  data<float>(s),
                  nullptr,
                  out<float>(y)};
  for_each_task(ceil_div(rows, ENOUGH_ROWS), [&](int64_t task) {
    std::vector<float> work(all.gain ? size : 0);
    for (int64_t row = task * ENOUGH_ROWS; row < std::min(rows, (task + 1) * ENOUGH_ROWS); row++) {
      const int64_t at = (place ? place[row] : row) % angles * r;
      Heads one = all;
      one.x += row * columns, one.y += row * columns, one.cos += at, one.sin += at, one.work = work.data();
      kernels_in_use().rotary(&one);
    }
  });
  return x.scalar_type() == ScalarType::Float ? y : torch::stable::to(y, x.scalar_type());
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { serve<&rotary>(m, "rotary"); }
