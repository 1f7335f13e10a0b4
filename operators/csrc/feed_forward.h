// What a transformer's layer computes for each token by itself, for the operators that are made of it.
#pragma once

#include <optional>

#include "layer_norm.h"
#include "linear.h"

// A linear layer, and how its results become bytes.
struct Step {
  Linear linear;
  Activation how;
};

struct FeedForward {
  Step first, wide, second;
  bool by_tanh;
  LayerNorm first_norm, second_norm;
  bool quantize;
  std::optional<Linear> then;
};

// What operators/feed_forward.py packed into `layer`, for rows of k bytes; it looks into that tensor. Throws
// one line where it is something else, or its parts do not fit each other.
FeedForward feed_forward_of(const char *op, const Tensor &layer, int64_t k);

// Throws one line where the layer's result does not become bytes though `quantize`, or the linear that reads
// it has not `then` outputs (0: there is none).
void check_results(const char *op, const FeedForward &f, bool quantize, int64_t then);

// What one call reads and writes, all with the rows of a: floats [m, k], or null: what these rows are to be
// made of, by `how`, where they are not made yet; residual and y [m, n], which may be the same; `rows` of y
// where they are a result; z [m, p] of the linear that reads them, z_stride elements between rows.
struct Through {
  Rows a;
  const float *floats;
  Activation how;
  const float *residual;
  float *y;
  Rows rows;
  float *z;
  int64_t z_stride;
};

void run(const FeedForward &f, const Through &t);
