// Operators one after the other, as operators/calls.py wrote them down: PyTorch is asked once for all of
// them.
#include "calls.h"

#include <charconv>
#include <map>
#include <utility>

#include "checks.h"

namespace {

const char *const OP = "calls";
const int64_t MOST_VALUES = 1 << 20;

std::map<std::string_view, Operator> &known() {
  static std::map<std::string_view, Operator>
      all; // here: other files register theirs before this one's statics are made
  return all;
}

// What is before `end`, and cut off from `text` with it; all of it where there is none.
std::string_view cut(std::string_view &text, char end) {
  const size_t at = text.find(end);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}

} // namespace

void remember(const char *name, Operator one) { known()[name] = one; }

void Calls::refuse(std::string_view got) const {
  fail(OP, "text must be what lowering wrote", "\"" + std::string(got) + "\" in it", "lower the graph again");
}

std::string_view Calls::word() {
  if (here.empty())
    refuse("too few words");
  return cut(here, ' ');
}

template <class Number>
Number Calls::read(std::string_view word) const {
  Number n = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), n);
  if (error != std::errc() || end != word.data() + word.size())
    refuse(word);
  return n;
}

Tensor &Calls::value(std::string_view word) {
  const int64_t at = read<int64_t>(word);
  if (at < 0 || at >= static_cast<int64_t>(values.size()))
    refuse(word);
  return values[at];
}

// [a,b,c]
std::vector<std::string_view> Calls::list() {
  std::string_view all = word();
  if (all.size() < 2 || all.front() != '[' || all.back() != ']')
    refuse(all);
  all = all.substr(1, all.size() - 2);
  if (!all.empty() && all.back() == ',')
    refuse(all);
  std::vector<std::string_view> parts;
  while (!all.empty())
    parts.push_back(cut(all, ','));
  return parts;
}

void Calls::take(Tensor &to) {
  const std::string_view name = word();
  to = value(name);
  if (!to.defined())
    refuse(name);
}

void Calls::take(std::optional<Tensor> &to) {
  if (here.substr(0, here.find(' ')) == "-")
    return (void)word();
  Tensor given;
  take(given);
  to = given;
}

void Calls::take(std::vector<Tensor> &to) {
  for (std::string_view name : list()) {
    to.push_back(value(name));
    if (!to.back().defined())
      refuse(name);
  }
}

void Calls::take(int64_t &to) {
  const std::string_view given = word();
  if (given.empty() || given.front() != '$') {
    to = read<int64_t>(given);
    return;
  }
  const int64_t at = read<int64_t>(given.substr(1));
  if (at < 0 || at >= static_cast<int64_t>(sizes.size()))
    refuse(given);
  to = sizes[at];
}

void Calls::take(double &to) { to = read<double>(word()); }

void Calls::take(bool &to) {
  const std::string_view given = word();
  if (given != "0" && given != "1")
    refuse(given);
  to = given == "1";
}

void Calls::take(std::vector<int64_t> &to) {
  for (std::string_view one : list())
    to.push_back(read<int64_t>(one));
}

void Calls::take(std::vector<double> &to) {
  for (std::string_view one : list())
    to.push_back(read<double>(one));
}

void Calls::take(std::string &to) {
  to = word();
  if (to.empty())
    refuse(to);
}

void Calls::arrow() {
  const std::string_view found = word();
  if (found != "->")
    refuse(found);
}

void Calls::put(const Tensor &result) { value(word()) = result; }

void Calls::put(const std::vector<Tensor> &results) {
  size_t i = 0;
  for (std::string_view name : list()) {
    if (i == results.size())
      refuse(name);
    value(name) = results[i++];
  }
}

std::vector<Tensor> Calls::run() {
  const std::string_view most = cut(left, '\n');
  const int64_t count = read<int64_t>(most);
  if (count < static_cast<int64_t>(values.size()) || count >= MOST_VALUES)
    refuse(most);
  values.resize(count);
  for (;;) {
    here = cut(left, '\n');
    if (!here.empty() && here.back() == ' ')
      refuse(here);
    const std::string_view name = word();
    if (name == "return") {
      std::vector<Tensor> results;
      take(results);
      if (!here.empty())
        refuse(here);
      return results;
    }
    if (name == "drop") {
      if (here.empty())
        refuse(name);
      while (!here.empty())
        value(word()) = Tensor();
      continue;
    }
    const auto found = known().find(name);
    if (found == known().end())
      refuse(name);
    found->second(*this);
    if (!here.empty())
      refuse(here);
  }
}

namespace {

std::vector<Tensor> calls(const std::vector<Tensor> &inputs, const std::vector<int64_t> &sizes,
                          const std::vector<Tensor> &constants, const std::string &text) {
  std::vector<Tensor> values = inputs;
  values.insert(values.end(), constants.begin(), constants.end());
  return Calls(text, std::move(values), sizes).run();
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(opswap, CPU, m) { m.impl("calls", TORCH_BOX(&calls)); }
