// opswap::attention and attention_int8 for CPU tensors: attention_plan.h says which thread computes what.
#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "attention_bytes.h"
#include "attention_call.h"
#include "calls.h"
#include "dispatch.h"
#include "pool.h"
#include "tensors.h"

namespace {

struct Result {
  float *y;      // [T, H], or null: quantized, to what follows
  float *floats; // [T, H], or null: used in place of y where no sequence is whole
  uint8_t *q;
  float *scale;
  int32_t *zero_point;
  Activation how;
};

enum { PACKED, OWN, WHOLE, SHARED }; // slots of scratch
enum { SOME = 48 };                  // rows that a part of a table is put together for

// Packs all heads of the sequences that are not whole.
void pack_first(const Call &c, std::vector<Sequence> &all) {
  int64_t bytes = 0;
  std::vector<Sequence *> some;
  for (Sequence &s : all)
    if (!s.whole) {
      some.push_back(&s);
      bytes += s.bytes.packed * c.heads;
    }
  char *packed = static_cast<char *>(scratch(PACKED, bytes));
  for (Sequence *s : some) {
    s->packed = packed;
    packed += s->bytes.packed * c.heads;
  }
  for_each_task(some.size() * c.heads, [&](int64_t i) {
    const Sequence &s = *some[i / c.heads];
    const Head head = head_of(c, s, i % c.heads, s.packed + i % c.heads * s.bytes.packed);
    if (s.count)
      c.kernel.pack(&head);
  });
}

// The same for a head whose rows and keys are no runs in the table: their part of it is put together, a few
// rows at a time. part: memory for that.
void attend_scattered(const Call &c, const Sequence &s, int64_t head, Head one, const Rows &all,
                      float *part) {
  const char *const q = static_cast<const char *>(one.q);
  const int64_t element = one.q_bf16 ? 2 : 4;
  one.bias = part, one.bias_stride = s.count;
  for (int64_t done = 0; done < all.rows; done += SOME) {
    const int64_t first = all.first + done, rows = smaller(SOME, all.rows - done);
    gather(c.table, s, head, first, rows, part);
    one.q = q + first * one.q_stride * element;
    const Rows some{0, rows, all.y + done * all.y_stride, all.y_stride, all.work, nullptr};
    c.kernel.attend(&one, &some);
  }
}

// Some heads of some rows, into y: the sequence's rows, all heads.
void attend(const Call &c, const Task &t, float *y) {
  const Sequence &s = *t.sequence;
  const int64_t h = c.heads * c.d;
  for (int64_t head = t.head; head < t.head + t.heads; head++) {
    float *to = y + t.first * h + head * c.d;
    for (int64_t r = 0; !s.count && r < t.rows; r++)
      std::fill(to + r * h, to + r * h + c.d, 0.0f);
    if (!s.count)
      continue;
    const bool scattered = is_scattered(c.table, s);
    const int64_t memory = s.bytes.packed + s.bytes.work;
    char *own = static_cast<char *>(scratch(OWN, memory + (scattered ? SOME * s.count * 4 : 0)));
    const Head one = head_of(c, s, head, s.packed ? s.packed + head * s.bytes.packed : own);
    const Head next = head_of(c, s, head + 1, nullptr);
    if (!s.packed)
      c.kernel.pack(&one);
    const bool fetch = !s.packed && head + 1 < c.heads;
    const Rows rows{t.first, t.rows, to, h, own + s.bytes.packed, fetch ? &next : nullptr};
    if (scattered)
      attend_scattered(c, s, head, one, rows, reinterpret_cast<float *>(own + memory));
    else
      c.kernel.attend(&one, &rows);
  }
}

// y: `rows` rows of the result from `row` on.
void quantize(const Result &out, const float *y, int64_t row, int64_t rows, int64_t h) {
  const Row first{y,
                  h,
                  out.how.symmetric,
                  out.how.scale,
                  out.how.zero,
                  out.how.rotation,
                  out.q + row * h,
                  out.scale + row,
                  out.zero_point + row};
  kernels_in_use().quantize(&first, rows);
}

// -> whether the result is in y or floats, not in bytes
bool run(Call &c, Result out) {
  const int64_t h = c.heads * c.d;
  const int64_t whole = choose_whole(c.sequences, threads());
  if (!out.y && !whole)
    out.y = out.floats;
  const int64_t parts = parts_of_rows(c.sequences, c.heads, threads());
  if (parts > 1)
    pack_first(c, c.sequences);
  float *all = out.y; // [T, H]; of whole sequences that are quantized nothing is written to it
  if (!all && whole < static_cast<int64_t>(c.sequences.size()))
    all = static_cast<float *>(scratch(SHARED, c.qkv.size(0) * h * sizeof(float)));
  const std::vector<Task> tasks = tasks_of(c.sequences, whole, c.heads, parts, threads());
  for_each_task(tasks.size(), [&](int64_t i) {
    const Sequence &s = *tasks[i].sequence;
    if (out.y || !s.whole) {
      attend(c, tasks[i], all + s.first * h);
      return;
    }
    float *y = static_cast<float *>(scratch(WHOLE, s.rows * h * sizeof(float)));
    attend(c, tasks[i], y);
    quantize(out, y, s.first, s.rows, h);
  });
  if (out.y)
    return true;
  const std::vector<Span> spans = spans_of(c.sequences);
  for_each_task(spans.size(), [&](int64_t i) {
    quantize(out, all + spans[i].first * h, spans[i].first, spans[i].rows, h);
  });
  return false;
}

Tensor attention(const Tensor &qkv, const Tensor &starts, const std::optional<Tensor> &keep, int64_t heads,
                 double scale, bool precise, bool causal, const std::optional<Tensor> &table,
                 const std::optional<Tensor> &places) {
  Call c = prepare("attention", qkv, starts, keep, heads, scale, precise, causal, table, places);
  Tensor y = empty({qkv.size(0), c.heads * c.d}, ScalarType::Float);
  run(c, Result{out<float>(y), nullptr, nullptr, nullptr, nullptr, {}});
  return y;
}

std::tuple<Tensor, Tensor, Tensor> attention_int8(const Tensor &qkv, const Tensor &starts,
                                                  const std::optional<Tensor> &keep, int64_t heads,
                                                  double scale, bool symmetric, double fixed_scale,
                                                  int64_t fixed_zero, int64_t rotation, bool precise,
                                                  bool causal, const std::optional<Tensor> &table,
                                                  const std::optional<Tensor> &places) {
  check_heads("attention_int8", qkv, heads, scale);
  const int64_t rows = qkv.size(0), h = qkv.size(1) / 3;
  Tensor q = empty({rows, h}, ScalarType::Byte);
  Tensor s = empty({rows}, ScalarType::Float), z = empty({rows}, ScalarType::Int);
  attend_to_bytes(
      "attention_int8", qkv, starts, keep,
      {heads, scale, symmetric, fixed_scale, fixed_zero, rotation, precise, causal, table, places},
      {out<uint8_t>(q), out<float>(s), out<int32_t>(z), nullptr});
  return {q, s, z};
}

} // namespace

bool attend_to_bytes(const char *op, const Tensor &qkv, const Tensor &starts,
                     const std::optional<Tensor> &keep, const AttentionGiven &g,
                     const AttentionBytesOut &to) {
  Call c = prepare(op, qkv, starts, keep, g.heads, g.scale, g.precise, g.causal, g.table, g.places);
  check_depth(op, c.heads * c.d);
  const Activation how = checked_levels(op, g.symmetric, g.fixed_scale, g.fixed_zero, g.rotation);
  return run(c, Result{nullptr, to.floats, to.q, to.scale, to.zero_point, how});
}

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  serve<&attention>(m, "attention");
  serve<&attention_int8>(m, "attention_int8");
}
