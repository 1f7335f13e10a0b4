// The vectors of positions that attention_disentangled is given, and which of them a sequence reaches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention_call.h"
#include "checks.h"
#include "tensors.h"

enum { SOME = 48 }; // rows that share a range of vectors, and whose scores are put together at a time

struct Positions {
  std::optional<Tensor> vectors; // [heads, P, d], without gaps; none: nothing is added
  std::optional<Tensor> index;   // [S, S], without gaps
  const char *name;              // of the index
};

// Entries of an index, both included.
struct Range {
  int32_t low = INT32_MAX, high = INT32_MIN;

  bool empty() const { return low > high; }
  int64_t count() const { return empty() ? 0 : int64_t{high} - low + 1; }
  void add(const Range &other) { low = std::min(low, other.low), high = std::max(high, other.high); }
};

// What a sequence reaches in one index: of SOME of its rows at a time, and of all. Rows of keys are counted
// from that of the first key.
struct Reach {
  std::vector<Range> some;
  Range all;
};

inline Positions positions_of(const char *op, const char *vectors_name, const std::optional<Tensor> &vectors,
                              const char *name, const std::optional<Tensor> &index, int64_t heads,
                              int64_t d) {
  const std::string vector = vectors_name;
  if (vectors.has_value() != index.has_value())
    fail(op, vector + " and " + name + " must come together", "one of them", "pass both or none");
  if (!vectors)
    return {};
  if (!(vectors->is_cpu() && vectors->scalar_type() == ScalarType::Float && vectors->dim() == 3 &&
        vectors->size(0) == heads && vectors->size(1) > 0 && vectors->size(2) == d))
    fail(op,
         vector + " must be Float on the CPU [" + std::to_string(heads) + ", positions, " +
             std::to_string(d) + "], of at least one position",
         named(*vectors), "convert or reshape " + vector);
  if (!(index->is_cpu() && index->scalar_type() == ScalarType::Int && index->dim() == 2 &&
        index->size(0) == index->size(1) && index->size(0) > 0))
    fail(op, std::string(name) + " must be Int on the CPU [length, length]", named(*index),
         std::string("convert or expand ") + name);
  return {dense(vectors), dense(index), name};
}

// The entries of an index for some rows of a sequence and all of its keys: where they lie, or, unless rows
// and keys are runs of places, brought together in `room`, [rows, count].
inline const int32_t *entries_of(const Call &c, const Positions &p, const Sequence &s, int64_t row,
                                 int64_t rows, int32_t *room, int64_t *stride) {
  const int64_t length = p.index->size(0);
  const int32_t *const index = data<int32_t>(p.index);
  *stride = length;
  if (!is_scattered(c.table, s))
    return index + (s.row_place + row) * length + s.key_place;
  *stride = s.count;
  const int32_t *const place = c.table.places.data() + s.first;
  int32_t *to = room;
  for (int64_t i = row; i < row + rows; i++)
    for (int64_t j = 0; j < s.count; j++)
      *to++ = index[place[i] * length + place[s.keys ? s.keys[j] : j]];
  return room;
}

inline Range range_of(const int32_t *entries, int64_t count) {
  int32_t low = INT32_MAX, high = INT32_MIN;
  for (int64_t i = 0; i < count; i++)
    low = std::min(low, entries[i]), high = std::max(high, entries[i]);
  return {low, high};
}

// How many rows there are from the first key to the last.
inline int64_t key_span(const Sequence &s) {
  return s.count == 0 ? 0 : s.keys ? s.keys[s.count - 1] - s.keys[0] + 1 : s.count;
}

// Behind the last key of each SOME rows of keys.
inline std::vector<int64_t> ends_of(const Sequence &s) {
  std::vector<int64_t> ends;
  for (int64_t row = SOME; row < key_span(s) + SOME; row += SOME)
    ends.push_back(s.keys ? std::lower_bound(s.keys, s.keys + s.count, s.keys[0] + row) - s.keys
                          : std::min<int64_t>(row, s.count));
  return ends;
}

// by_key: of rows of keys, not of queries. Throws where an entry names no vector.
inline Reach reach_of(const char *op, const Call &c, const Positions &p, const Sequence &s, bool by_key) {
  if (!p.index || !s.count)
    return {};
  const std::vector<int64_t> ends = by_key ? ends_of(s) : std::vector<int64_t>{s.count};
  Reach r{std::vector<Range>(by_key ? ends.size() : ceil_div(s.rows, SOME)), {}};
  std::vector<int32_t> room(is_scattered(c.table, s) ? s.count : 0);
  for (int64_t row = 0; row < s.rows; row++) {
    int64_t stride, from = 0;
    const int32_t *const entries = entries_of(c, p, s, row, 1, room.data(), &stride);
    for (size_t part = 0; part < ends.size(); from = ends[part++])
      r.some[by_key ? part : row / SOME].add(range_of(entries + from, ends[part] - from));
  }
  for (const Range &one : r.some)
    r.all.add(one);
  const int64_t last = p.vectors->size(1) - 1;
  if (r.all.low < 0 || r.all.high > last)
    fail(op, std::string(p.name) + " must lie in 0.." + std::to_string(last),
         r.all.low < 0 ? r.all.low : r.all.high, "pass a vector for each entry");
  return r;
}
