// Operators one after the other without PyTorch's dispatcher in between: opswap::calls.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "tensors.h"

// One call of opswap::calls on its way through the text that operators/calls.py explains. take reads the next
// word as an argument, put the next as the name of a result; both throw one line for a text that is something
// else.
class Calls {
public:
  Calls(const std::string &text, std::vector<Tensor> values, const std::vector<int64_t> &sizes)
      : left(text), values(std::move(values)), sizes(sizes) {}

  std::vector<Tensor> run();

  void take(Tensor &to);
  void take(std::optional<Tensor> &to);
  void take(std::vector<Tensor> &to);
  void take(int64_t &to);
  void take(double &to);
  void take(bool &to);
  void take(std::vector<int64_t> &to);
  void take(std::vector<double> &to);
  void take(std::string &to);
  void arrow();
  void put(const Tensor &result);
  void put(const std::vector<Tensor> &results);

private:
  [[noreturn]] void refuse(std::string_view got) const;
  std::string_view word();
  template <class Number>
  Number read(std::string_view word) const;
  Tensor &value(std::string_view word);
  std::vector<std::string_view> list();

  std::string_view left, here; // the lines to come, and what is left of this one
  std::vector<Tensor> values;
  const std::vector<int64_t> &sizes;
};

using Operator = void (*)(Calls &);

void remember(const char *name, Operator one);

template <auto f>
struct OperatorOf;

template <class Result, class... Arguments, Result (*f)(Arguments...)>
struct OperatorOf<f> {
  static void run(Calls &calls) {
    std::tuple<std::decay_t<Arguments>...> given;
    std::apply([&](auto &...each) { (calls.take(each), ...); }, given);
    calls.arrow();
    put(calls, std::apply(f, given));
  }

private:
  template <class... Each>
  static void put(Calls &calls, const std::tuple<Each...> &results) {
    std::apply([&](const auto &...each) { (calls.put(each), ...); }, results);
  }

  template <class One>
  static void put(Calls &calls, const One &result) {
    calls.put(result);
  }
};

// Registers f with PyTorch, and as a step of opswap::calls.
template <auto f>
void serve(torch::stable::detail::StableLibrary &library, const char *name) {
  library.impl(name, TORCH_BOX(f));
  remember(name, OperatorOf<f>::run);
}
