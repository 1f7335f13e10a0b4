// What the places of tokens add to their scores, put together from products with vectors of positions: part
// of attention.h.
#pragma once

#include <stdint.h>

// One side of it: of row i and key j, the product of one of them with the vector that the index names.
typedef struct {
  const float *products; // a row for each of the ones that look up; null: this side adds nothing
  int64_t stride;
  const int32_t *index; // [rows, count], index_stride elements between rows
  int64_t index_stride;
  int32_t low; // the index of a row's first product; 16 floats before and after all rows may be read
} Side;

// y[i, j] = queries.products[i, queries.index[i, j]] + keys.products[key row j, keys.index[i, j]]
typedef struct {
  Side queries, keys;
  int64_t rows, count;
  const int32_t *key_rows; // null: the first `count`; else key_rows[j] - key_rows[0]
  float *y;                // [rows, count], y_stride between rows: a multiple of 16
  int64_t y_stride;
} LookUp;
