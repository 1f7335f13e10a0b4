// A packed layer: words of 8 bytes, of which operators/feed_forward.py says what they are, then its tensors.
#include "feed_forward.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "checks.h"

namespace {

const int64_t MAGIC = 0x336c7773706f; // "opswl3"
const int64_t WORDS = 69;             // as there, which a test compares

// Reads the words one after the other.
class Reader {
public:
  Reader(const char *op, const Tensor &layer) : op(op) {
    check_tensor(op, "layer", layer, ScalarType::Byte, 1);
    if (!layer.is_contiguous() || layer.numel() < WORDS * 8)
      refuse("a part of one");
    base = data<char>(layer), bytes = layer.numel();
    if (reinterpret_cast<uintptr_t>(base) % alignof(float))
      refuse("a part of one");
    if (word() != MAGIC)
      refuse("other bytes");
  }

  Linear linear(int64_t k) {
    check_depth(op, k);
    const Linear l = maybe_linear(k);
    if (!l.packed)
      refuse("one without a linear");
    return l;
  }

  // Without anything where there is none.
  Linear maybe_linear(int64_t k) {
    const int64_t n = word_at(at + 3); // the length of weight_sum
    if (n < 0 || n > bytes)
      refuse("a damaged one");
    const int8_t *packed = vector<int8_t>(ceil_div(n, PANEL) * ceil_div(k, GROUP) * GROUP * PANEL);
    const int32_t *sum = vector<int32_t>(n);
    const float *scale = vector<float>(n), *bias = vector<float>(n);
    if (!packed != !sum || !packed != !scale || (bias && !packed))
      fail(op, "a linear must have packed, weight_sum and weight_scale", "a part",
           "pass all of them, or none");
    return {packed, sum, scale, bias, n, k, {}};
  }

  LayerNorm norm(int64_t n, bool last) {
    LayerNorm l{vector<float>(n), vector<float>(n), 0, nullptr, nullptr, false, false, {}};
    l.eps = static_cast<float>(real());
    quantize = last ? flag() : true;
    how = levels();
    l.smooth_scale = vector<float>(n), l.smooth_shift = vector<float>(n), l.keeps_sum = flag(),
    l.rms = flag();
    if (!l.gamma || !l.beta)
      refuse("one without a norm");
    if (!l.smooth_scale != !l.smooth_shift)
      fail(op, "smooth_scale and smooth_shift must come together", "one of them", "pass both or none");
    if (l.keeps_sum && !quantize)
      fail(op, "keeps_sum must come with quantize", "keeps_sum alone", "add the residual without a norm");
    return l;
  }

  Activation levels() {
    const bool symmetric = flag();
    const double scale = real();
    const int64_t zero = word(), rotation = word();
    return checked_levels(op, symmetric, scale, zero, rotation);
  }

  bool flag() { return word() != 0; }

  // Of the last norm: whether its result becomes bytes, and how.
  bool quantize = true;
  Activation how{};

private:
  [[noreturn]] void refuse(const std::string &got) {
    fail(op, "layer must be what operators.feed_forward.pack_layer made", got, "pack it again");
  }

  int64_t word_at(int64_t i) {
    int64_t value;
    std::memcpy(&value, base + 8 * i, 8);
    return value;
  }

  int64_t word() { return word_at(at++); }

  double real() {
    double value;
    std::memcpy(&value, base + 8 * at++, 8);
    return value;
  }

  // Null where there is none; else it must have `count` entries, all inside.
  template <class T>
  const T *vector(int64_t count) {
    const int64_t begin = word(), have = word();
    if (begin == 0)
      return nullptr;
    if (have != count)
      fail(op, "a vector of its layer must have " + std::to_string(count) + " entries", have, "fix it");
    if (begin < WORDS * 8 || begin % 64 || begin > bytes || have > (bytes - begin) / (int64_t)sizeof(T))
      refuse("a damaged one");
    return reinterpret_cast<const T *>(base + begin);
  }

  const char *op, *base;
  int64_t bytes, at = 0;
};

} // namespace

FeedForward feed_forward_of(const char *op, const Tensor &layer, int64_t k) {
  Reader read(op, layer);
  FeedForward f;
  f.first.linear = read.linear(k);
  const int64_t n = f.first.linear.n;
  f.first_norm = read.norm(n, false), f.first.how = read.how;
  f.wide.linear = read.linear(n), f.wide.how = read.levels(), f.by_tanh = read.flag();
  f.second.linear = read.linear(f.wide.linear.n);
  if (f.second.linear.n != n)
    fail(op, "the third linear must have " + std::to_string(n) + " outputs", f.second.linear.n, "fix it");
  f.second_norm = read.norm(n, true), f.second.how = read.how, f.quantize = read.quantize;
  f.then = read.maybe_linear(n);
  if (!f.then->packed)
    f.then.reset();
  else if (!f.quantize)
    fail(op, "the fourth linear must have rows to read", "a norm that makes none", "quantize its result");
  return f;
}
