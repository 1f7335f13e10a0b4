// opswap::attention_disentangled for CPU tensors: every head of every sequence is one task.
#include <algorithm>
#include <optional>
#include <vector>

#include "attention_call.h"
#include "attention_reach.h"
#include "calls.h"
#include "pool.h"
#include "tensors.h"

namespace {

const char *const OP = "attention_disentangled";
enum { MARGIN = 16 }; // floats before and after products that may be read

// A sequence, and what it reaches: the vectors that its queries, and its keys, are multiplied with.
struct Part {
  const Sequence *sequence;
  Reach of_queries, of_keys;
};

struct Given {
  Call call;
  Positions of_queries, of_keys;
  std::vector<Part> parts;
};

Given prepared(const Tensor &qkv, const Tensor &starts, const std::optional<Tensor> &keep,
               const std::optional<Tensor> &places, const std::optional<Tensor> &position_keys,
               const std::optional<Tensor> &key_index, const std::optional<Tensor> &position_queries,
               const std::optional<Tensor> &query_index, int64_t heads, double scale, bool precise) {
  check_attention(OP, qkv, starts, keep, heads, scale);
  const int64_t d = qkv.size(1) / (3 * heads);
  const Positions of_queries =
      positions_of(OP, "position_keys", position_keys, "key_index", key_index, heads, d);
  const Positions of_keys =
      positions_of(OP, "position_queries", position_queries, "query_index", query_index, heads, d);
  if (!key_index && !query_index)
    fail(OP, "position_keys or position_queries must be given", "none", "use attention");
  const int64_t length = (key_index ? key_index : query_index)->size(0);
  if (query_index && query_index->size(0) != length)
    fail(OP, "key_index and query_index must have the same shape",
         shape_of(*key_index) + " and " + shape_of(*query_index), "expand one");
  const std::vector<int64_t> at = starts_of(OP, starts, qkv.size(0));
  Table where{std::nullopt, places_of(OP, "index", places, length, at)};
  Given g{call_of(qkv, at, keep, heads, scale, precise, false, std::move(where)), of_queries, of_keys, {}};
  g.parts.resize(g.call.sequences.size());
  for_each_task(g.parts.size(), [&](int64_t i) {
    const Sequence &s = g.call.sequences[i];
    g.parts[i] = {&s, reach_of(OP, g.call, of_queries, s, false), reach_of(OP, g.call, of_keys, s, true)};
  });
  return g;
}

// Products of a row with all vectors that are reached, and a gap: rows a page apart compete for the same
// lines.
int64_t stride_of(const Range &r) { return round_up(r.count(), 64) + MARGIN; }

// The memory of a task.
struct Memory {
  char *packed, *vectors, *work;
  float *of_queries, *of_keys, *bias; // products of SOME rows, of all rows of keys; [SOME, bias_stride]
  int64_t bias_stride;
  int32_t *key_entries, *query_entries; // [SOME, count] where rows or keys are scattered
};

int64_t vector_bytes(const Call &c, const Reach &r) {
  return r.all.empty() ? 0 : c.kernel.bytes(r.all.count(), c.d).packed;
}

Memory memory_of(const Call &c, const Part &p) {
  const Sequence &s = *p.sequence;
  const int64_t vectors = std::max(vector_bytes(c, p.of_queries), vector_bytes(c, p.of_keys));
  const int64_t of_queries = SOME * stride_of(p.of_queries.all) + 2 * MARGIN;
  const int64_t of_keys = round_up(key_span(s), SOME) * stride_of(p.of_keys.all) + 2 * MARGIN;
  const int64_t bias_stride = round_up(s.count, 16) + 16,
                entries = is_scattered(c.table, s) ? SOME * s.count : 0;
  const int64_t numbers = of_queries + of_keys + SOME * bias_stride + 2 * entries;
  char *const own = static_cast<char *>(scratch(0, s.bytes.packed + s.bytes.work + vectors + numbers * 4));
  Memory m{own, own + s.bytes.packed, own + s.bytes.packed + vectors};
  float *const floats = reinterpret_cast<float *>(m.work + s.bytes.work);
  m.of_queries = floats + MARGIN, m.of_keys = floats + of_queries + MARGIN;
  m.bias = floats + of_queries + of_keys, m.bias_stride = bias_stride;
  m.key_entries = reinterpret_cast<int32_t *>(m.bias + SOME * bias_stride),
  m.query_entries = m.key_entries + entries;
  return m;
}

// The vectors of a head that a sequence reaches, as keys of rows x, which are packed.
Head packed_vectors(const Call &c, const Positions &p, const Reach &r, int64_t head, const Head &one,
                    const void *x, char *room) {
  const float *const from = data<float>(p.vectors) + (head * p.vectors->size(1) + r.all.low) * c.d;
  const Head vectors{x,       from,    nullptr,       one.q_bf16, 0, one.q_stride, c.d, c.d,
                     c.scale, nullptr, r.all.count(), 0,          0, room};
  c.kernel.pack(&vectors);
  return vectors;
}

// Products of up to SOME rows from `row` on with the vectors that these reach.
void multiply(const Call &c, const Head &vectors, const Reach &r, int64_t row, int64_t rows, const Memory &m,
              float *y) {
  const Range &some = r.some[row / SOME];
  const int64_t from = (some.low - r.all.low) / 64 * 64, to = some.high - r.all.low + 1;
  const Products products{row, rows, from, to, y, stride_of(r.all), m.work};
  if (!some.empty())
    c.kernel.products(&vectors, &products);
}

void multiply_keys(const Given &g, const Part &p, int64_t head, const Head &one, const Memory &m) {
  const Sequence &s = *p.sequence;
  if (!g.of_keys.index)
    return;
  const int64_t first = s.keys ? s.keys[0] : 0, span = key_span(s);
  const char *const keys = static_cast<const char *>(one.k) + first * one.stride * (one.bf16 ? 2 : 4);
  const Head vectors = packed_vectors(g.call, g.of_keys, p.of_keys, head, one, keys, m.vectors);
  for (int64_t row = 0; row < span; row += SOME)
    multiply(g.call, vectors, p.of_keys, row, std::min<int64_t>(SOME, span - row), m,
             m.of_keys + row * stride_of(p.of_keys.all));
}

Side side_of(const Call &c, const Positions &p, const Reach &r, const Sequence &s, int64_t row, int64_t rows,
             const float *products, int32_t *room) {
  Side side{};
  if (!p.index)
    return side;
  side.index = entries_of(c, p, s, row, rows, room, &side.index_stride);
  side.products = products, side.stride = stride_of(r.all), side.low = r.all.low;
  return side;
}

void attend(const Given &g, const Part &p, int64_t head, float *y) {
  const Call &c = g.call;
  const Sequence &s = *p.sequence;
  const int64_t h = c.heads * c.d;
  float *const to = y + s.first * h + head * c.d;
  for (int64_t row = 0; !s.count && row < s.rows; row++)
    std::fill(to + row * h, to + row * h + c.d, 0.0f);
  if (!s.count)
    return;
  const Memory m = memory_of(c, p);
  Head one = head_of(c, s, head, m.packed);
  const char *const q = static_cast<const char *>(one.q);
  c.kernel.pack(&one);
  multiply_keys(g, p, head, one, m);
  Head vectors{};
  if (g.of_queries.index)
    vectors = packed_vectors(c, g.of_queries, p.of_queries, head, one, q, m.vectors);
  one.bias = m.bias, one.bias_stride = m.bias_stride;
  for (int64_t row = 0; row < s.rows; row += SOME) {
    const int64_t rows = std::min<int64_t>(SOME, s.rows - row);
    if (g.of_queries.index)
      multiply(c, vectors, p.of_queries, row, rows, m, m.of_queries);
    const LookUp look{side_of(c, g.of_queries, p.of_queries, s, row, rows, m.of_queries, m.key_entries),
                      side_of(c, g.of_keys, p.of_keys, s, row, rows, m.of_keys, m.query_entries),
                      rows,
                      s.count,
                      s.keys,
                      m.bias,
                      m.bias_stride};
    c.kernel.look_up(&look);
    one.q = q + row * one.q_stride * (one.q_bf16 ? 2 : 4);
    const ::Rows some{0, rows, to + row * h, h, m.work, nullptr};
    c.kernel.attend(&one, &some);
  }
}

Tensor attention_disentangled(const Tensor &qkv, const Tensor &starts, const std::optional<Tensor> &keep,
                              const std::optional<Tensor> &places, const std::optional<Tensor> &position_keys,
                              const std::optional<Tensor> &key_index,
                              const std::optional<Tensor> &position_queries,
                              const std::optional<Tensor> &query_index, int64_t heads, double scale,
                              bool precise) {
  const Given g = prepared(qkv, starts, keep, places, position_keys, key_index, position_queries, query_index,
                           heads, scale, precise);
  Tensor y = empty({qkv.size(0), heads * g.call.d}, ScalarType::Float);
  for_each_task(g.parts.size() * heads,
                [&](int64_t i) { attend(g, g.parts[i / heads], i % heads, out<float>(y)); });
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { serve<&attention_disentangled>(m, "attention_disentangled"); }
