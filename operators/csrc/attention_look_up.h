// attention_positions.h, one number after the other, for any instruction set.
#pragma once

#include "attention_positions.h"

static void look_up(const LookUp *l) {
  const Side q = l->queries, k = l->keys;
  for (int64_t i = 0; i < l->rows; i++) {
    float *const y = l->y + i * l->y_stride;
    const float *const own = q.products ? q.products + i * q.stride - q.low : nullptr;
    const int32_t *const own_at = q.index + i * q.index_stride, *const at = k.index + i * k.index_stride;
    for (int64_t j = 0; j < l->count; j++) {
      const int64_t row = l->key_rows ? l->key_rows[j] - l->key_rows[0] : j;
      const float one = own ? own[own_at[j]] : 0;
      y[j] = one + (k.products ? k.products[row * k.stride + at[j] - k.low] : 0);
    }
  }
}
