// The sum of a token's embeddings, normalized and quantized, for CPU tensors over the stable ABI.
#include <algorithm>
#include <tuple>
#include <vector>

#include "calls.h"
#include "checks.h"
#include "layer_norm.h"
#include "linear.h"
#include "pool.h"

namespace {

// A row of the table [V, n] for each id. What is in tensors is looked up once: that is a call.
struct Lookup {
  Tensor ids, table;
  const int64_t *id;
  const float *first;
};

Lookup checked_lookup(const Tensor &ids, const Tensor &table, int64_t rows, int64_t n) {
  const char *const op = "embed_norm";
  const bool narrow = ids.scalar_type() == ScalarType::Int;
  check_vector(op, "ids", ids, narrow ? ScalarType::Int : ScalarType::Long, rows);
  check_tensor(op, "table", table, ScalarType::Float, 2);
  if (table.size(1) != n)
    fail(op, "tables must have " + std::to_string(n) + " columns", table.size(1), "fix it");
  Lookup l{dense(narrow ? torch::stable::to(ids, ScalarType::Long) : ids), dense(table), nullptr, nullptr};
  l.id = data<int64_t>(l.ids), l.first = data<float>(l.table);
  const int64_t size = table.size(0);
  for (int64_t i = 0; i < rows; i++)
    if (l.id[i] < 0 || l.id[i] >= size) // no words are made for the others
      fail(op, "ids must lie in 0.." + std::to_string(size - 1), l.id[i], "use the model's own tokenizer");
  return l;
}

const float *row_at(const Lookup &l, int64_t i, int64_t n) { return l.first + l.id[i] * n; }

void fetch(const Lookup &l, int64_t i, int64_t n) {
  const float *const row = row_at(l, i, n);
  for (int64_t k = 0; k < n; k += 16) // 64 bytes
    __builtin_prefetch(row + k);
}

// The sum of row i of each, from left to right.
void add(const std::vector<Lookup> &lookups, int64_t i, int64_t n, float *__restrict row) {
  const float *const one = row_at(lookups[0], i, n);
  if (lookups.size() == 1) {
    std::copy(one, one + n, row);
    return;
  }
  const float *const two = row_at(lookups[1], i, n);
  const float *const three = lookups.size() > 2 ? row_at(lookups[2], i, n) : nullptr;
  if (three)
    for (int64_t k = 0; k < n; k++)
      row[k] = one[k] + two[k] + three[k];
  else
    for (int64_t k = 0; k < n; k++)
      row[k] = one[k] + two[k];
}

std::tuple<Tensor, Tensor, Tensor, Tensor>
embed_norm(const Tensor &ids1, const Tensor &table1, const std::optional<Tensor> &ids2,
           const std::optional<Tensor> &table2, const std::optional<Tensor> &ids3,
           const std::optional<Tensor> &table3, const Tensor &gamma, const Tensor &beta, double eps,
           bool quantize, bool symmetric, double fixed_scale, int64_t fixed_zero, int64_t rotation,
           const std::optional<Tensor> &smooth_scale, const std::optional<Tensor> &smooth_shift,
           bool keeps_sum, bool rms) {
  const char *const op = "embed_norm";
  if (ids1.dim() != 1)
    fail(op, "ids must have 1 dimension", shape_of(ids1), "reshape them");
  check_tensor(op, "gamma", gamma, ScalarType::Float, 1);
  const int64_t m = ids1.size(0), n = gamma.size(0);
  check_depth(op, n);
  const LayerNorm norm =
      checked_norm(op, gamma, beta, eps, smooth_scale, smooth_shift, quantize, keeps_sum, rms, n);
  const Activation how = checked_levels(op, symmetric, fixed_scale, fixed_zero, rotation);
  std::vector<Lookup> lookups{checked_lookup(ids1, table1, m, n)};
  const auto look_up = [&](const char *which, const std::optional<Tensor> &ids,
                           const std::optional<Tensor> &table) {
    if (ids.has_value() != table.has_value())
      fail(op, std::string("a ") + which + " table and its ids must come together", "one of them",
           "pass both or none");
    if (ids)
      lookups.push_back(checked_lookup(*ids, *table, m, n));
  };
  look_up("second", ids2, table2), look_up("third", ids3, table3);
  const Tensor y = empty({m, n}, ScalarType::Float);
  const Rows r = empty_rows(quantize ? m : 0, n);
  for_each_task(ceil_div(m, ENOUGH_ROWS), [&](int64_t task) {
    const int64_t first = task * ENOUGH_ROWS, rows = std::min(ENOUGH_ROWS, m - first);
    float *const block = out<float>(y) + first * n;
    for (int64_t i = first; i < first + rows; i++) {
      if (i + 1 < m)
        fetch(lookups.front(), i + 1, n); // the tokens' table is large, and read at random
      add(lookups, i, n, block + (i - first) * n);
    }
    const Row bytes = row_of(r, quantize ? first : 0, nullptr, how);
    normalize(norm, block, nullptr, block, rows, n, quantize ? &bytes : nullptr);
  });
  return {y, r.q, r.scale, r.zero_point};
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { serve<&embed_norm>(m, "embed_norm"); }
