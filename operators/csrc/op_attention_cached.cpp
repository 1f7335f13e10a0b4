// opswap::attention_cached for CPU tensors: the new keys and values are written behind the earlier ones, then
// every head of every sequence is one task, which attends to all of them.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "attention_checks.h"
#include "attention_dispatch.h"
#include "float.h"
#include "pool.h"
#include "tensors.h"

namespace {

const char *const OP = "attention_cached";
const int64_t FEW = 4; // rows for which keys and values are read as they are

// What one call works on.
struct Call {
  const Attention &kernel;
  Tensor qkv, kept_keys, kept_values;
  int64_t batch, fresh, past, room, heads, shared, d; // shared: heads of keys and of values

  int64_t columns() const { return (heads + 2 * shared) * d; }
  float scale;
  std::vector<std::vector<int32_t>> keys; // of each sequence, which may be looked at
};

bool is_half(const Tensor &t) { return t.scalar_type() == ScalarType::BFloat16; }

void check_kept(const char *name, const Tensor &t, int64_t shared, int64_t d) {
  const ScalarType type = t.scalar_type();
  const bool kind = type == ScalarType::Float || type == ScalarType::BFloat16;
  if (!(t.is_cpu() && kind && t.dim() == 4 && t.size(0) > 0 && t.size(1) == shared && t.size(3) == d &&
        t.is_contiguous()))
    fail(OP,
         std::string(name) + " must be float32 or bfloat16 [batch, " + std::to_string(shared) + ", room, " +
             std::to_string(d) + "], contiguous",
         named(t), "allocate them so");
}

void check(const Tensor &qkv, const Tensor &keys, const Tensor &values, int64_t past, const Tensor &mask,
           int64_t heads, double scale) {
  const bool divides = keys.dim() == 4 && keys.size(1) > 0 && heads % keys.size(1) == 0;
  const int64_t shared = divides ? keys.size(1) : heads;
  check_heads(OP, qkv, heads, scale, shared);
  const int64_t d = qkv.size(1) / (heads + 2 * shared);
  check_kept("keys", keys, shared, d), check_kept("values", values, shared, d);
  if (keys.size(0) != values.size(0) || keys.size(2) != values.size(2) || is_half(keys) != is_half(values))
    fail(OP, "keys and values must be alike", shape_of(keys) + " and " + shape_of(values), "fix them");
  const int64_t batch = keys.size(0), room = keys.size(2), rows = qkv.size(0);
  if (rows % batch)
    fail(OP, "qkv must have as many rows for each of " + std::to_string(batch) + " sequences", rows,
         "fix qkv or keys");
  const int64_t whole = past + rows / batch;
  if (past < 0 || whole > room)
    fail(OP, "past and new tokens must fit into " + std::to_string(room), whole, "make more room");
  const ScalarType type = mask.scalar_type();
  const bool kind = type == ScalarType::Long || type == ScalarType::Bool;
  if (!(mask.is_cpu() && kind && mask.dim() == 2 && mask.size(0) == batch && mask.size(1) == whole))
    fail(OP, "mask must be int64 or bool [" + std::to_string(batch) + ", " + std::to_string(whole) + "]",
         named(mask), "one column a token, past and new");
}

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

void keep_both(const Call &c, int64_t sequence, int64_t head) {
  const int64_t from = sequence * c.fresh * c.columns() + (c.heads + head) * c.d;
  const int64_t to = kept_at(c, sequence, head) + c.past * c.d;
  keep(c, c.kept_keys, from, to);
  keep(c, c.kept_values, from + c.shared * c.d, to);
}

void attend(const Call &c, int64_t sequence, int64_t head, float *y) {
  const int64_t group = c.heads / c.shared, h = c.heads * c.d;
  const int64_t from = sequence * c.fresh * c.columns() + head * c.d;
  const int64_t kept = kept_at(c, sequence, head / group);
  if (group == 1)
    keep_both(c, sequence, head);
  const std::vector<int32_t> &keys = c.keys[sequence];
  const int64_t count = keys.size(), whole = c.past + c.fresh;
  float *to = y + sequence * c.fresh * h + head * c.d;
  for (int64_t row = 0; !count && row < c.fresh; row++)
    std::fill(to + row * h, to + row * h + c.d, 0.0f);
  if (!count)
    return;
  Head one{at(c.qkv, from),
           at(c.kept_keys, kept),
           at(c.kept_values, kept),
           is_half(c.qkv),
           is_half(c.kept_keys),
           c.columns(),
           c.d,
           c.d,
           c.scale,
           count == whole ? nullptr : keys.data(),
           count,
           1,
           c.past,
           nullptr};
  if (c.fresh <= FEW) {
    const Rows rows{0, c.fresh, to, h, scratch(0, few_bytes(count, c.d)), nullptr};
    return c.kernel.attend_few(&one, &rows);
  }
  const AttentionBytes bytes = c.kernel.bytes(count, c.d);
  char *own = static_cast<char *>(scratch(0, bytes.packed + bytes.work));
  one.packed = own;
  c.kernel.pack(&one);
  const Rows rows{0, c.fresh, to, h, own + bytes.packed, nullptr};
  c.kernel.attend(&one, &rows);
}

Tensor attention_cached(const Tensor &qkv, Tensor keys, Tensor values, int64_t past, const Tensor &mask,
                        int64_t heads, double scale, bool precise) {
  check(qkv, keys, values, past, mask, heads, scale);
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
               real.scalar_type() == ScalarType::Bool ? keys_of<bool>(real) : keys_of<int64_t>(real)};
  Tensor y = empty({qkv.size(0), heads * c.d}, ScalarType::Float);
  if (c.shared < heads) // several tasks read what one writes
    for_each_task(c.batch * c.shared, [&](int64_t i) { keep_both(c, i / c.shared, i % c.shared); });
  for_each_task(c.batch * heads, [&](int64_t i) { attend(c, i / heads, i % heads, out<float>(y)); });
  return y;
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { m.impl("attention_cached", TORCH_BOX(&attention_cached)); }
