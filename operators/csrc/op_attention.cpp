// opswap::attention and attention_int8 for CPU tensors: first every head's keys and values are packed, then
// each task finishes a block of rows over all heads, so that it can quantize them while they are in its
// cache.
#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "attention_checks.h"
#include "attention_dispatch.h"
#include "dispatch.h"
#include "pool.h"

namespace {

struct Sequence {
  int64_t first, rows;
  const int32_t *keys; // null: all
  int64_t count;
  AttentionBytes bytes;
  char *packed; // one head after another
};

struct Task {
  const Sequence *sequence;
  int64_t first, rows;
};

// What one call works on.
struct Call {
  const Attention &kernel;
  Tensor qkv;
  int64_t heads, d;
  float scale;
  std::vector<int32_t> keys;
  std::vector<Sequence> sequences;
  std::vector<Task> tasks;
};

struct Result {
  float *y; // [T, H], or null: quantized, to what follows
  uint8_t *q;
  float *scale;
  int32_t *zero_point;
  Activation how;
};

enum { PACKED, WORK, OUTPUT }; // slots of scratch

// Longest first, so that no long task is left for the end.
std::vector<Sequence> sequences_of(const Call &c, const std::vector<int64_t> &at, const bool *keep,
                                   std::vector<int32_t> &keys) {
  keys.reserve(keep ? at.back() : 0); // pointers into it stay valid
  std::vector<Sequence> all;
  for (size_t b = 0; b + 1 < at.size(); b++) {
    const int64_t first = at[b], rows = at[b + 1] - first;
    const size_t before = keys.size();
    for (int64_t i = 0; keep && i < rows; i++)
      if (keep[first + i])
        keys.push_back((int32_t)i);
    const int64_t count = keep ? (int64_t)(keys.size() - before) : rows;
    const AttentionBytes bytes = count ? c.kernel.bytes(count, c.d) : AttentionBytes{0, 0};
    if (rows)
      all.push_back(Sequence{first, rows, keep ? keys.data() + before : nullptr, count, bytes, nullptr});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Sequence &a, const Sequence &b) { return a.rows > b.rows; });
  return all;
}

// Rows of a task: enough to use keys and values again while they are in the cache, few enough to share
// evenly.
int64_t rows_at_once(int64_t rows) { return rows <= 256 ? 24 : 48; }

Call prepare(const std::string &op, const Tensor &qkv, const Tensor &starts,
             const std::optional<Tensor> &keep, int64_t heads, double scale) {
  check_attention(op, qkv, starts, keep, heads, scale);
  Call c{attention_in_use(), dense(qkv), heads, qkv.size(1) / (3 * heads), (float)scale, {}, {}, {}};
  const std::optional<Tensor> mask = keep ? std::optional<Tensor>(dense(*keep)) : std::nullopt;
  c.sequences = sequences_of(c, starts_of(op, starts, qkv.size(0)),
                             mask ? static_cast<const bool *>(mask->data_ptr()) : nullptr, c.keys);
  int64_t bytes = 0;
  for (const Sequence &s : c.sequences)
    bytes += s.bytes.packed * heads;
  char *packed = static_cast<char *>(scratch(PACKED, bytes));
  for (Sequence &s : c.sequences) {
    s.packed = packed;
    packed += s.bytes.packed * heads;
  }
  for (const Sequence &s : c.sequences)
    for (int64_t row = 0; row < s.rows; row += rows_at_once(s.rows))
      c.tasks.push_back(Task{&s, row, std::min(rows_at_once(s.rows), s.rows - row)});
  return c;
}

Head head_of(const Call &c, const Sequence &s, int64_t head) {
  const int bf16 = c.qkv.scalar_type() == ScalarType::BFloat16;
  const int64_t h = c.heads * c.d, element = bf16 ? 2 : 4;
  const char *q = static_cast<const char *>(c.qkv.data_ptr()) + (s.first * 3 * h + head * c.d) * element;
  return Head{q,
              q + h * element,
              q + 2 * h * element,
              bf16,
              3 * h,
              c.d,
              c.scale,
              s.keys,
              s.count,
              s.packed + head * s.bytes.packed};
}

void run(const Call &c, const Result &out) {
  const int64_t h = c.heads * c.d;
  for_each_task(c.sequences.size() * c.heads, [&](int64_t i) {
    const Sequence &s = c.sequences[i / c.heads];
    if (s.count) {
      const Head head = head_of(c, s, i % c.heads);
      c.kernel.pack(&head);
    }
  });
  const auto quantize = kernels_in_use().quantize;
  for_each_task(c.tasks.size(), [&](int64_t i) {
    const Task &t = c.tasks[i];
    const int64_t row = t.sequence->first + t.first;
    float *y = out.y ? out.y + row * h : static_cast<float *>(scratch(OUTPUT, t.rows * h * sizeof(float)));
    if (!t.sequence->count)
      std::fill(y, y + t.rows * h, 0.0f);
    void *work = scratch(WORK, t.sequence->bytes.work);
    for (int64_t head = 0; t.sequence->count && head < c.heads; head++) {
      const Head one = head_of(c, *t.sequence, head);
      const Rows rows{t.first, t.rows, y + head * c.d, h, work};
      c.kernel.attend(&one, &rows);
    }
    for (int64_t r = 0; !out.y && r < t.rows; r++) {
      const Row one{y + r * h,
                    h,
                    h,
                    out.how.symmetric,
                    out.how.scale,
                    out.how.zero,
                    out.q + (row + r) * h,
                    out.scale + row + r,
                    out.zero_point + row + r};
      quantize(&one);
    }
  });
}

Tensor attention(const Tensor &qkv, const Tensor &starts, const std::optional<Tensor> &keep, int64_t heads,
                 double scale) {
  const Call c = prepare("attention", qkv, starts, keep, heads, scale);
  Tensor y = torch::stable::empty({qkv.size(0), c.heads * c.d}, ScalarType::Float);
  run(c, Result{static_cast<float *>(y.data_ptr()), nullptr, nullptr, nullptr, {}});
  return y;
}

std::tuple<Tensor, Tensor, Tensor> attention_int8(const Tensor &qkv, const Tensor &starts,
                                                  const std::optional<Tensor> &keep, int64_t heads,
                                                  double scale, bool symmetric, double fixed_scale,
                                                  int64_t fixed_zero) {
  const Call c = prepare("attention_int8", qkv, starts, keep, heads, scale);
  const int64_t rows = qkv.size(0), h = c.heads * c.d;
  check_depth("attention_int8", h);
  const Activation how = checked_levels("attention_int8", symmetric, fixed_scale, fixed_zero);
  Tensor q = torch::stable::empty({rows, h}, ScalarType::Byte);
  Tensor s = torch::stable::empty({rows}, ScalarType::Float),
         z = torch::stable::empty({rows}, ScalarType::Int);
  run(c, Result{nullptr, static_cast<uint8_t *>(q.data_ptr()), static_cast<float *>(s.data_ptr()),
                static_cast<int32_t *>(z.data_ptr()), how});
  return {q, s, z};
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) {
  m.impl("attention", TORCH_BOX(&attention));
  m.impl("attention_int8", TORCH_BOX(&attention_int8));
}
