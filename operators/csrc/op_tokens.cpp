// Tokens in and out of a packed batch, for CPU tensors over the stable ABI.
#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "checks.h"
#include "tensors.h"

namespace {

const char *const PACKED = "pass what pack_tokens returned";

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

// Row tokens[i] of the flattened [B, S], of each; one row of them stands for all B.
std::vector<Tensor> take_tokens(const std::vector<Tensor> &ids, const Tensor &tokens) {
  const char *const op = "take_tokens";
  const Tensor at = dense(tokens);
  check_tensor(op, "tokens", tokens, ScalarType::Long, 1);
  const int64_t count = tokens.numel();
  int64_t batch = 1;
  for (const Tensor &one : ids) {
    check_tensor(op, "ids", one, ScalarType::Long, 2);
    batch = std::max(batch, one.size(0));
  }
  std::vector<Tensor> taken;
  for (const Tensor &one : ids) {
    const int64_t rows = one.size(0), sequence = one.size(1), positions = batch * sequence;
    if ((rows != 1 && rows != batch) || sequence != ids[0].size(1))
      fail(op, "ids must have the same sizes, or one row", shape_of(one), "pass [B, S] or [1, S]");
    const Tensor from = dense(one), to = empty({count}, ScalarType::Long);
    const int64_t *const token = data<int64_t>(at), *const id = data<int64_t>(from);
    int64_t *const made = out<int64_t>(to);
    for (int64_t i = 0; i < count; i++) {
      if (token[i] < 0 || token[i] >= positions)
        fail(op, "tokens must lie in 0.." + std::to_string(positions - 1), token[i], PACKED);
      made[i] = id[rows == batch ? token[i] : token[i] % sequence];
    }
    taken.push_back(to);
  }
  return taken;
}

// x [T, C] and where its rows go in batch * sequence positions, checked.
struct Packed {
  Tensor x, tokens;
  int64_t rows, columns, positions;
};

Packed checked_packed(const char *op, const Tensor &x, const Tensor &tokens, int64_t batch,
                      int64_t sequence) {
  const bool fits = x.dim() == 2 && tokens.dim() == 1 && tokens.scalar_type() == ScalarType::Long &&
                    x.size(0) == tokens.size(0);
  if (!fits)
    fail(op, "x must be [T, C] and tokens int64 [T]", shape_of(x) + " and " + shape_of(tokens), PACKED);
  return {dense(x), dense(tokens), x.size(0), x.size(1), batch * sequence};
}

// Where the rows go. Throws one line for a place that is none.
const int64_t *places_of(const char *op, const Packed &p) {
  const int64_t *const at = data<int64_t>(p.tokens);
  for (int64_t i = 0; i < p.rows; i++)
    if (at[i] < 0 || at[i] >= p.positions)
      fail(op, "tokens must lie in 0.." + std::to_string(p.positions - 1), at[i], PACKED);
  return at;
}

Tensor unpack_tokens(const Tensor &x, const Tensor &tokens, int64_t batch, int64_t sequence) {
  const Packed p = checked_packed("unpack_tokens", x, tokens, batch, sequence);
  const int64_t size = p.columns * x.element_size();
  Tensor y = empty({batch, sequence, p.columns}, x.scalar_type());
  char *to = out<char>(y);
  const char *const from = data<char>(p.x);
  const int64_t *const at = places_of("unpack_tokens", p);
  std::memset(to, 0, p.positions * size);
  for (int64_t i = 0; i < p.rows; i++)
    std::memcpy(to + at[i] * size, from + i * size, size);
  return y;
}

template <class T>
void scatter(const Packed &p, const int64_t *at, int64_t column, T *to) {
  const T *const from = data<T>(p.x) + column;
  std::memset(to, 0, p.positions * sizeof(T));
  for (int64_t i = 0; i < p.rows; i++)
    to[at[i]] = from[i * p.columns];
}

std::vector<Tensor> unpack_columns(const Tensor &x, const Tensor &tokens, int64_t batch, int64_t sequence) {
  const char *const op = "unpack_columns";
  const Packed p = checked_packed(op, x, tokens, batch, sequence);
  const bool half = x.element_size() == 2;
  if (!half && x.element_size() != 4)
    fail(op, "x must be of 2 or 4 bytes an element", named(x), "convert it");
  std::vector<Tensor> columns;
  for (int64_t c = 0; c < p.columns; c++)
    columns.push_back(empty({batch, sequence}, x.scalar_type()));
  const int64_t *const at = places_of(op, p);
  for (int64_t c = 0; c < p.columns; c++)
    half ? scatter(p, at, c, out<uint16_t>(columns[c])) : scatter(p, at, c, out<float>(columns[c]));
  return columns;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  m.impl("pack_tokens", TORCH_BOX(&pack_tokens));
  m.impl("take_tokens", TORCH_BOX(&take_tokens));
  m.impl("unpack_tokens", TORCH_BOX(&unpack_tokens));
  m.impl("unpack_columns", TORCH_BOX(&unpack_columns));
}
