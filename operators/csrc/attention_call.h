// What one call of attention works on: its sequences and their heads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "attention_checks.h"
#include "attention_dispatch.h"
#include "attention_plan.h"
#include "attention_table.h"
#include "tensors.h"

struct Call {
  const Attention &kernel;
  Tensor qkv;
  int64_t heads, d;
  float scale;
  bool causal;
  Table table;
  std::vector<int32_t> keys;
  std::vector<Sequence> sequences;
};

// Longest first. One whose keys are all kept needs no list of them.
inline std::vector<Sequence> sequences_of(const Call &c, const std::vector<int64_t> &at, const bool *keep,
                                          std::vector<int32_t> &keys) {
  keys.reserve(keep ? at.back() : 0); // pointers into it stay valid
  std::vector<Sequence> all;
  for (size_t b = 0; b + 1 < at.size(); b++) {
    const int64_t first = at[b], rows = at[b + 1] - first;
    const size_t before = keys.size();
    const bool *some = keep && std::count(keep + first, keep + at[b + 1], false) ? keep + first : nullptr;
    for (int64_t i = 0; some && i < rows; i++)
      if (some[i])
        keys.push_back((int32_t)i);
    const int64_t count = some ? (int64_t)(keys.size() - before) : rows;
    const AttentionBytes bytes = count ? c.kernel.bytes(count, c.d) : AttentionBytes{0, 0};
    if (rows)
      all.push_back(
          Sequence{first, rows, some ? keys.data() + before : nullptr, count, bytes, false, nullptr});
    if (rows && !c.table.places.empty())
      find_runs(c.table, all.back());
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Sequence &a, const Sequence &b) { return a.rows > b.rows; });
  return all;
}

// at: starts, as starts_of gives them; all else is checked.
inline Call call_of(const Tensor &qkv, const std::vector<int64_t> &at, const std::optional<Tensor> &keep,
                    int64_t heads, double scale, bool precise, bool causal, Table table) {
  const int64_t d = qkv.size(1) / (3 * heads);
  Call c{attention_in_use(precise),
         with_dense_rows(qkv),
         heads,
         d,
         (float)scale,
         causal,
         std::move(table),
         {},
         {}};
  const std::optional<Tensor> mask = dense(keep);
  c.sequences = sequences_of(c, at, data<bool>(mask), c.keys);
  return c;
}

inline Call prepare(const char *op, const Tensor &qkv, const Tensor &starts,
                    const std::optional<Tensor> &keep, int64_t heads, double scale, bool precise, bool causal,
                    const std::optional<Tensor> &table, const std::optional<Tensor> &places) {
  check_attention(op, qkv, starts, keep, heads, scale);
  const std::vector<int64_t> at = starts_of(op, starts, qkv.size(0));
  return call_of(qkv, at, keep, heads, scale, precise, causal,
                 table_of(op, table, places, heads, causal, at));
}

inline Head head_of(const Call &c, const Sequence &s, int64_t head, void *packed) {
  const int bf16 = c.qkv.scalar_type() == ScalarType::BFloat16;
  const int64_t h = c.heads * c.d, stride = c.qkv.stride(0), element = bf16 ? 2 : 4;
  const char *q = data<char>(c.qkv) + (s.first * stride + head * c.d) * element;
  const char *k = q + h * element, *v = k + h * element;
  Head one{q, k, v, bf16, bf16, stride, stride, c.d, c.scale, s.keys, s.count, c.causal, 0, packed};
  if (!c.table.held || is_scattered(c.table, s))
    return one;
  one.bias_stride = step_along(*c.table.held, 2);
  one.bias = table_head(c.table, head) + s.row_place * one.bias_stride + s.key_place;
  return one;
}
