// Tokens in and out of a packed batch, for CPU tensors over the stable ABI.
#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "calls.h"
#include "checks.h"
#include "tensors.h"

namespace {

const char *const PACKED = "pass what pack_tokens returned";

// Whether each position holds something else than zero.
template <class T>
std::vector<bool> real_of(const Tensor &mask) {
  const T *const value = data<T>(mask);
  std::vector<bool> real(mask.numel());
  for (size_t i = 0; i < real.size(); i++)
    real[i] = value[i] != 0;
  return real;
}

std::tuple<Tensor, Tensor> pack_tokens(const Tensor &attention_mask, bool first) {
  if (!attention_mask.is_cpu() || attention_mask.dim() != 2)
    fail("pack_tokens", "attention_mask must be [batch, sequence]", "shape " + shape_of(attention_mask),
         "reshape it");
  const bool int64 = attention_mask.scalar_type() == ScalarType::Long; // as most come: converting is a call
  const Tensor mask = dense(int64 ? attention_mask : torch::stable::to(attention_mask, ScalarType::Bool));
  const int64_t batch = mask.size(0), sequence = mask.size(1);
  std::vector<bool> real = int64 ? real_of<int64_t>(mask) : real_of<bool>(mask);
  for (int64_t at = 0; first && at < batch * sequence; at += sequence)
    real[at] = true;
  const int64_t count = std::count(real.begin(), real.end(), true);
  const Tensor tokens = empty({count}, ScalarType::Long), starts = empty({batch + 1}, ScalarType::Int);
  int64_t *token = out<int64_t>(tokens), *const begin = token;
  int32_t *start = out<int32_t>(starts);
  for (int64_t b = 0; b < batch; b++) {
    start[b] = static_cast<int32_t>(token - begin);
    for (int64_t at = b * sequence; at < (b + 1) * sequence; at++)
      if (real[at])
        *token++ = at;
  }
  start[batch] = static_cast<int32_t>(count);
  return {tokens, starts};
}

// Place tokens[i] of the flattened [B, S], of each; one row, of S or more, stands for all B.
std::vector<Tensor> take_tokens(const std::vector<Tensor> &ids, const Tensor &tokens) {
  const char *const op = "take_tokens";
  const Tensor at = dense(tokens);
  check_tensor(op, "tokens", tokens, ScalarType::Long, 1);
  const int64_t count = tokens.numel();
  int64_t batch = 1, sequence = ids.empty() ? 0 : std::numeric_limits<int64_t>::max();
  for (const Tensor &one : ids) {
    check_tensor(op, "ids", one, ScalarType::Long, 2);
    batch = one.size(0) == 1 ? batch : one.size(0), sequence = std::min(sequence, one.size(1));
  }
  const int64_t positions = batch * sequence;
  std::vector<Tensor> taken;
  for (const Tensor &one : ids) {
    const bool repeated = one.size(0) == 1;
    if (!repeated && (one.size(0) != batch || one.size(1) != sequence))
      fail(op, "ids must have the same sizes, or one row", shape_of(one), "pass [B, S] or [1, S]");
    const Tensor from = dense(one), to = empty({count}, ScalarType::Long);
    const int64_t *const token = data<int64_t>(at), *const id = data<int64_t>(from);
    int64_t *const made = out<int64_t>(to);
    for (int64_t i = 0; i < count; i++) {
      if (token[i] < 0 || token[i] >= positions)
        fail(op, "tokens must lie in 0.." + std::to_string(positions - 1), token[i], PACKED);
      made[i] = id[repeated ? token[i] % sequence : token[i]];
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
  serve<&pack_tokens>(m, "pack_tokens");
  serve<&take_tokens>(m, "take_tokens");
  serve<&unpack_tokens>(m, "unpack_tokens");
  serve<&unpack_columns>(m, "unpack_columns");
}
