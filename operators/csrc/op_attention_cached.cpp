// opswap::attention_cached for CPU tensors: the new keys and values are written behind the earlier ones, then
// heads of each sequence are shared among threads, and attend to all of them.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "attention_cached_checks.h"
#include "attention_dispatch.h"
#include "float.h"
#include "pool.h"
#include "tensors.h"

namespace {

const int64_t FEW = 4; // rows for which keys and values are read as they are

// What one call works on.
struct Call {
  const Attention &kernel;
  Tensor qkv, kept_keys, kept_values;
  int64_t batch, fresh, past, room, heads, shared, d; // shared: heads of keys and of values

  float scale;
  std::vector<std::vector<int32_t>> keys; // of each sequence, which may be looked at
  int64_t together;                       // heads of a task

  int64_t columns() const { return (heads + 2 * shared) * d; }
  int64_t group() const { return heads / shared; }   // heads that look at the same keys
  bool keeps() const { return together == group(); } // a task writes what it reads; else that is there before
};

template <class T>
std::vector<std::vector<int32_t>> keys_of(const Tensor &mask) {
  const int64_t batch = mask.size(0), count = mask.size(1);
  std::vector<std::vector<int32_t>> all(batch);
  const T *real = data<T>(mask);
  for (int64_t b = 0; b < batch; b++)
    for (int64_t i = 0; i < count; i++)
      if (real[b * count + i])
        all[b].push_back(static_cast<int32_t>(i));
  return all;
}

// One head's columns of the new rows, from `from` on, to where they are kept.
void keep(const Call &c, const Tensor &kept, int64_t from, int64_t first) {
  const bool half = is_half(c.qkv), narrow = is_half(kept);
  const char *x = data<char>(c.qkv); // asked for once: a tensor's own data_ptr is a call
  char *y = out<char>(kept);
  for (int64_t row = 0; row < c.fresh; row++, from += c.columns(), first += c.d) {
    const float *__restrict wide = reinterpret_cast<const float *>(x) + from;
    const uint16_t *__restrict low = reinterpret_cast<const uint16_t *>(x) + from;
    float *__restrict to_wide = reinterpret_cast<float *>(y) + first;
    uint16_t *__restrict to_low = reinterpret_cast<uint16_t *>(y) + first;
    if (half && narrow)
      std::memcpy(to_low, low, c.d * sizeof(*low));
    else if (!half && !narrow)
      std::memcpy(to_wide, wide, c.d * sizeof(*wide));
    else if (narrow)
      for (int64_t i = 0; i < c.d; i++)
        to_low[i] = narrowed(wide[i]);
    else
      for (int64_t i = 0; i < c.d; i++)
        to_wide[i] = widened(low[i]);
  }
}

const char *at(const Tensor &t, int64_t element) { return data<char>(t) + element * (is_half(t) ? 2 : 4); }

// Where the kept rows of a head of keys, or of values, begin.
int64_t kept_at(const Call &c, int64_t sequence, int64_t head) {
  return (sequence * c.shared + head) * c.room * c.d;
}

// Where a head of the new rows begins: of queries, then keys, then values.
int64_t column_of(const Call &c, int64_t sequence, int64_t head) {
  return sequence * c.fresh * c.columns() + head * c.d;
}

void keep_both(const Call &c, int64_t sequence, int64_t head) {
  const int64_t from = column_of(c, sequence, c.heads + head);
  const int64_t to = kept_at(c, sequence, head) + c.past * c.d;
  keep(c, c.kept_keys, from, to);
  keep(c, c.kept_values, from + c.shared * c.d, to);
}

// Heads of queries are counted through all sequences.
Head head_of(const Call &c, int64_t number, void *packed) {
  const int64_t sequence = number / c.heads, head = number % c.heads;
  const int64_t kept = kept_at(c, sequence, head / c.group());
  const std::vector<int32_t> &keys = c.keys[sequence];
  const int64_t count = keys.size();
  return {at(c.qkv, column_of(c, sequence, head)),
          at(c.kept_keys, kept),
          at(c.kept_values, kept),
          is_half(c.qkv),
          is_half(c.kept_keys),
          c.columns(),
          c.d,
          c.d,
          c.scale,
          count == c.past + c.fresh ? nullptr : keys.data(),
          count,
          1,
          c.past,
          packed};
}

// What is read of the new rows when it is that head's turn: its queries, and keys and values that are to be
// kept.
Head coming(const Call &c, int64_t number) {
  Head next = head_of(c, number, nullptr);
  const int64_t key = c.heads + number % c.heads / c.group();
  const bool keeps = c.keeps() && number % c.group() == 0;
  next.k = keeps ? at(c.qkv, column_of(c, number / c.heads, key)) : nullptr;
  next.v = keeps ? at(c.qkv, column_of(c, number / c.heads, key + c.shared)) : nullptr;
  next.bf16 = next.q_bf16, next.stride = next.q_stride;
  return next;
}

// `together` heads from `first` on, which look at the same keys.
void attend(const Call &c, int64_t first, float *y) {
  const int64_t sequence = first / c.heads, head = first % c.heads, h = c.heads * c.d;
  if (c.keeps())
    keep_both(c, sequence, head / c.group());
  const int64_t count = c.keys[sequence].size();
  float *to = y + sequence * c.fresh * h + head * c.d;
  for (int64_t row = 0; !count && row < c.fresh; row++)
    std::fill(to + row * h, to + row * h + c.together * c.d, 0.0f);
  if (!count)
    return;
  const bool few = c.fresh <= FEW;
  const AttentionBytes bytes = few ? AttentionBytes{0, few_bytes(count, c.d)} : c.kernel.bytes(count, c.d);
  char *own = static_cast<char *>(scratch(0, bytes.packed + bytes.work));
  for (int64_t number = first; number < first + c.together; number++, to += c.d) {
    const Head one = head_of(c, number, own);
    if (!few && number == first)
      c.kernel.pack(&one);
    const bool more = !few && number + 1 < c.batch * c.heads;
    const Head next = more ? coming(c, number + 1) : one;
    const Rows rows{0, c.fresh, to, h, own + bytes.packed, more ? &next : nullptr};
    (few ? c.kernel.attend_few : c.kernel.attend)(&one, &rows);
  }
}

// How many heads are a task: all that look at the same keys, unless threads would wait for each other.
int64_t together(const Tensor &keys, int64_t heads) {
  const int64_t tasks = keys.size(0) * keys.size(1);
  return tasks % threads() == 0 || tasks >= 4 * threads() ? heads / keys.size(1) : 1;
}

Tensor attention_cached(const Tensor &qkv, Tensor keys, Tensor values, int64_t past, const Tensor &mask,
                        int64_t heads, double scale, bool precise) {
  check_cached("attention_cached", qkv, keys, values, past, mask, heads, scale);
  const Tensor real = dense(mask);
  const Call c{attention_in_use(precise),
               dense(qkv),
               keys,
               values,
               keys.size(0),
               qkv.size(0) / keys.size(0),
               past,
               keys.size(2),
               heads,
               keys.size(1),
               keys.size(3),
               static_cast<float>(scale),
               real.scalar_type() == ScalarType::Bool ? keys_of<bool>(real) : keys_of<int64_t>(real),
               together(keys, heads)};
  Tensor y = empty({qkv.size(0), heads * c.d}, ScalarType::Float);
  if (!c.keeps())
    for_each_task(c.batch * c.shared, [&](int64_t i) { keep_both(c, i / c.shared, i % c.shared); });
  const int64_t tasks = c.batch * heads / c.together;
  for_each_task(tasks, [&](int64_t i) { attend(c, i * c.together, out<float>(y)); });
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { m.impl("attention_cached", TORCH_BOX(&attention_cached)); }
