// Small words for tensors over the stable ABI.
#pragma once

#include <optional>
#include <vector>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline Tensor empty(std::vector<int64_t> sizes, ScalarType type) { return torch::stable::empty(sizes, type); }

inline Tensor dense(const Tensor &t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline std::optional<Tensor> dense(const std::optional<Tensor> &t) {
  return t ? std::optional<Tensor>(dense(*t)) : std::nullopt;
}

template <class T>
const T *data(const Tensor &t) {
  return static_cast<const T *>(t.data_ptr());
}

template <class T>
const T *data(const std::optional<Tensor> &t) {
  return t ? data<T>(*t) : nullptr;
}

template <class T>
T *out(const Tensor &t) {
  return static_cast<T *>(t.data_ptr());
}
