// Small words for tensors over the stable ABI.
#pragma once

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// On the CPU. Past the dispatcher, where torch::stable::empty spends most of a small call: operators make up
// to four of them. Throws one line where there is no room for it.
inline Tensor empty(const std::vector<int64_t> &sizes, const std::vector<int64_t> &strides, ScalarType type) {
  const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  AtenTensorHandle made;
  if (aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), dtype,
                               aoti_torch_device_type_cpu(), 0, &made) != AOTI_TORCH_SUCCESS) {
    std::string shape;
    for (int64_t size : sizes)
      shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    throw std::runtime_error("opswap: a result must have sizes from 0 on, and fit in memory; got shape [" +
                             shape + "]; pass fewer rows at once");
  }
  return Tensor(made);
}

// Contiguous.
inline Tensor empty(const std::vector<int64_t> &sizes, ScalarType type) {
  std::vector<int64_t> strides(sizes.size());
  for (int64_t i = static_cast<int64_t>(sizes.size()) - 1, next = 1; i >= 0; i--)
    strides[i] = next, next *= std::max<int64_t>(1, sizes[i]);
  return empty(sizes, strides, type);
}

inline Tensor dense(const Tensor &t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline std::optional<Tensor> dense(const std::optional<Tensor> &t) {
  return t ? std::optional<Tensor>(dense(*t)) : std::nullopt;
}

// Each row without gaps, whatever lies between rows.
inline Tensor with_dense_rows(const Tensor &t) {
  return t.stride(1) == 1 || t.size(1) == 1 ? t : torch::stable::contiguous(t);
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
