// Tokens in and out of a packed batch, and their embeddings, for CPU tensors over the stable ABI.
#include <algorithm>
#include <cstring>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "checks.h"
#include "layer_norm.h"
#include "linear.h"
#include "pool.h"

namespace {

std::tuple<Tensor, Tensor> pack_tokens(const Tensor &attention_mask, bool first) {
  if (!attention_mask.is_cpu() || attention_mask.dim() != 2)
    fail("pack_tokens", "attention_mask must be [batch, sequence]", "shape " + shape_of(attention_mask),
         "reshape it");
  const Tensor mask = dense(torch::stable::to(attention_mask, ScalarType::Bool)); // true: not zero
  const int64_t batch = mask.size(0), sequence = mask.size(1);
  const bool *real = data<bool>(mask);
  int64_t count = batch * sequence - std::count(real, real + batch * sequence, false);
  for (int64_t at = 0; first && at < batch * sequence; at += sequence)
    count += !real[at];
  const Tensor tokens = empty({count}, ScalarType::Long), starts = empty({batch + 1}, ScalarType::Int);
  int64_t *token = out<int64_t>(tokens), *const begin = token;
  int32_t *start = out<int32_t>(starts);
  for (int64_t b = 0; b < batch; b++) {
    start[b] = static_cast<int32_t>(token - begin);
    for (int64_t at = b * sequence; at < (b + 1) * sequence; at++)
      if (real[at] || (first && at == b * sequence))
        *token++ = at;
  }
  start[batch] = static_cast<int32_t>(count);
  return {tokens, starts};
}

struct Lookup {
  Tensor ids, table;
};

Lookup checked_lookup(const Tensor &ids, const Tensor &table, int64_t rows, int64_t n) {
  const char *const op = "embed_norm";
  check_vector(op, "ids", ids, ScalarType::Long, rows);
  check_tensor(op, "table", table, ScalarType::Float, 2);
  if (table.size(1) != n)
    fail(op, "tables must have " + std::to_string(n) + " columns", table.size(1), "fix it");
  const Lookup found{dense(ids), dense(table)};
  for (int64_t i = 0; i < rows; i++) {
    const int64_t id = data<int64_t>(found.ids)[i];
    if (id < 0 || id >= table.size(0)) // no words are made for the others
      fail(op, "ids must lie in 0.." + std::to_string(table.size(0) - 1), id,
           "use the model's own tokenizer");
  }
  return found;
}

void fetch(const Lookup &l, int64_t i, int64_t n) {
  const float *row = data<float>(l.table) + data<int64_t>(l.ids)[i] * n;
  for (int64_t k = 0; k < n; k += 16) // 64 bytes
    __builtin_prefetch(row + k);
}

std::tuple<Tensor, Tensor, Tensor, Tensor>
embed_norm(const Tensor &ids1, const Tensor &table1, const Tensor &ids2, const Tensor &table2,
           const std::optional<Tensor> &ids3, const std::optional<Tensor> &table3, const Tensor &gamma,
           const Tensor &beta, double eps, bool quantize, bool symmetric, double fixed_scale,
           int64_t fixed_zero, const std::optional<Tensor> &smooth_scale,
           const std::optional<Tensor> &smooth_shift, bool keeps_sum) {
  const char *const op = "embed_norm";
  check_tensor(op, "ids", ids1, ScalarType::Long, 1);
  check_tensor(op, "gamma", gamma, ScalarType::Float, 1);
  const int64_t m = ids1.size(0), n = gamma.size(0);
  check_depth(op, n);
  const LayerNorm norm =
      checked_norm(op, gamma, beta, eps, smooth_scale, smooth_shift, quantize, keeps_sum, n);
  const Activation how = checked_levels(op, symmetric, fixed_scale, fixed_zero);
  if (ids3.has_value() != table3.has_value())
    fail(op, "a third table and its ids must come together", "one of them", "pass both or none");
  std::vector<Lookup> lookups{checked_lookup(ids1, table1, m, n), checked_lookup(ids2, table2, m, n)};
  if (ids3)
    lookups.push_back(checked_lookup(*ids3, *table3, m, n));
  const Tensor y = empty({m, n}, ScalarType::Float);
  const Rows r = empty_rows(quantize ? m : 0, n);
  for_each_task(ceil_div(m, ENOUGH_ROWS), [&](int64_t task) {
    const int64_t first = task * ENOUGH_ROWS, rows = std::min(ENOUGH_ROWS, m - first);
    float *const block = out<float>(y) + first * n;
    for (int64_t i = first; i < first + rows; i++) {
      float *row = block + (i - first) * n;
      if (i + 1 < m)
        fetch(lookups.front(), i + 1, n); // the tokens' table is large, and read at random
      for (const Lookup &l : lookups) {
        const float *found = data<float>(l.table) + data<int64_t>(l.ids)[i] * n;
        if (&l == &lookups.front())
          std::memcpy(row, found, n * sizeof(float));
        else
          for (int64_t k = 0; k < n; k++)
            row[k] += found[k];
      }
    }
    const Row bytes = row_of(r, quantize ? first : 0, nullptr, how);
    normalize(norm, block, nullptr, block, rows, n, quantize ? &bytes : nullptr);
  });
  return {y, r.q, r.scale, r.zero_point};
}

Tensor unpack_tokens(const Tensor &x, const Tensor &tokens, int64_t batch, int64_t sequence) {
  const char *const op = "unpack_tokens", *const todo = "pass what pack_tokens returned";
  const bool fits = x.dim() == 2 && tokens.dim() == 1 && tokens.scalar_type() == ScalarType::Long &&
                    x.size(0) == tokens.size(0);
  if (!fits)
    fail(op, "x must be [T, C] and tokens int64 [T]", shape_of(x) + " and " + shape_of(tokens), todo);
  const Tensor from = dense(x), where = dense(tokens);
  const int64_t c = x.size(1), size = c * from.element_size(), positions = batch * sequence;
  Tensor y = empty({batch, sequence, c}, x.scalar_type());
  char *to = out<char>(y);
  std::memset(to, 0, positions * size);
  for (int64_t i = 0; i < x.size(0); i++) {
    const int64_t at = data<int64_t>(where)[i];
    if (at < 0 || at >= positions)
      fail(op, "tokens must lie in 0.." + std::to_string(positions - 1), at, todo);
    std::memcpy(to + at * size, data<char>(from) + i * size, size);
  }
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  m.impl("pack_tokens", TORCH_BOX(&pack_tokens));
  m.impl("unpack_tokens", TORCH_BOX(&unpack_tokens));
  m.impl("embed_norm", TORCH_BOX(&embed_norm));
}
