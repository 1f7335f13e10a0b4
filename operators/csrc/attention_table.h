// What is added to the scores of packed rows by where their tokens stand: attention's `table` and `places`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention_plan.h"
#include "checks.h"
#include "tensors.h"

// [1, heads or 1, S or 1, S], and where in it each row of qkv is, for its query and its key.
struct Table {
  std::optional<Tensor> held;  // the last dimension without gaps; none: nothing of it is added
  std::vector<int32_t> places; // none: nobody asks
};

inline void check_table(const char *op, const Tensor &table, int64_t heads, bool causal) {
  check_tensor(op, "table", table, ScalarType::Float, 4);
  const int64_t length = table.size(3);
  const auto fits = [&](int64_t dim, int64_t want) {
    return table.size(dim) == 1 || table.size(dim) == want;
  };
  if (!(length > 0 && table.size(0) == 1 && fits(1, heads) && fits(2, length)))
    fail(op, "table must be [1, " + std::to_string(heads) + " or 1, length or 1, length]", shape_of(table),
         "expand it");
  if (causal)
    fail(op, "with a table, causal must be false", "true", "put -inf into the table");
}

// Where in a table of `length` places each row is. at: starts. Without `places` it is its number in its
// sequence.
inline std::vector<int32_t> places_of(const char *op, const std::string &table,
                                      const std::optional<Tensor> &places, int64_t length,
                                      const std::vector<int64_t> &at) {
  if (places)
    check_vector(op, "places", *places, ScalarType::Long, at.back());
  const std::optional<Tensor> given = dense(places);
  const int64_t *const place = data<int64_t>(given);
  std::vector<int32_t> all(at.back());
  for (size_t b = 0; b + 1 < at.size(); b++) {
    if (!place && at[b + 1] - at[b] > length)
      fail(op, "sequences must be no longer than the " + table + ", " + std::to_string(length),
           at[b + 1] - at[b], "pass places, or a larger " + table);
    for (int64_t i = at[b]; i < at[b + 1]; i++) {
      if (place && place[i] < 0)
        fail(op, "places must be 0 or more", place[i], "pass what pack_tokens returned");
      all[i] = static_cast<int32_t>(place ? place[i] % length : i - at[b]);
    }
  }
  return all;
}

inline Table table_of(const char *op, const std::optional<Tensor> &table, const std::optional<Tensor> &places,
                      int64_t heads, bool causal, const std::vector<int64_t> &at) {
  if (!table && places)
    fail(op, "places must come with a table", "places alone", "pass both or none");
  if (!table)
    return {};
  check_table(op, *table, heads, causal);
  return {table->stride(3) == 1 ? *table : dense(*table), places_of(op, "table", places, table->size(3), at)};
}

// Where in the table the first row and the first key of a sequence are, if all others follow these; -1: not
// so.
inline void find_runs(const Table &t, Sequence &s) {
  const int32_t *const place = t.places.data() + s.first;
  s.row_place = place[0], s.key_place = s.count ? place[s.keys ? s.keys[0] : 0] : 0;
  for (int64_t i = 0; i < s.rows; i++)
    if (place[i] != place[0] + i)
      s.row_place = -1;
  for (int64_t i = 0; i < s.count; i++)
    if (place[s.keys ? s.keys[i] : i] != s.key_place + i) {
      s.key_place = -1;
      return;
    }
}

// Elements from one to the next along `dim`, of which there may be one for all.
inline int64_t step_along(const Tensor &t, int64_t dim) { return t.size(dim) == 1 ? 0 : t.stride(dim); }

inline const float *table_head(const Table &t, int64_t head) {
  return data<float>(*t.held) + head * step_along(*t.held, 1);
}

inline bool is_scattered(const Table &t, const Sequence &s) {
  return !t.places.empty() && (s.row_place < 0 || s.key_place < 0);
}

// to [rows, count]: what is added to `rows` rows of a sequence from `row` on.
inline void gather(const Table &t, const Sequence &s, int64_t head, int64_t row, int64_t rows, float *to) {
  const int32_t *const place = t.places.data() + s.first;
  for (int64_t i = row; i < row + rows; i++, to += s.count) {
    const float *const from = table_head(t, head) + place[i] * step_along(*t.held, 2);
    for (int64_t j = 0; j < s.count; j++)
      to[j] = from[place[s.keys ? s.keys[j] : j]];
  }
}
