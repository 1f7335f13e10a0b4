// What an attention kernel is. Plain C, like kernels.h: files for one instruction set include only such
// headers and <immintrin.h>, and functions here are static.
#pragma once

#include <stdint.h>
#include <string.h>

#include "attention_positions.h"

// One head of one sequence: softmax(scale * q k^T) v, over the keys that may be looked at. causal: a row
// looks at no key of a later row.
typedef struct {
  const void *q, *k, *v;    // first row of the sequence, first column of the head; float, or bfloat16 where:
  int q_bf16, bf16;         // q; k and v
  int64_t q_stride, stride; // elements between rows
  int64_t d;                // columns of the head
  float scale;              // of the scores
  const int32_t *keys;      // rows of k and v to look at; null: the first `count`
  int64_t count;            // how many: at least 1
  int causal;
  int64_t before; // keys that come before that of the first row
  void *packed;   // keys and values in the kernel's own layout, aligned to 64: pack writes, attend reads; v
                  // null: keys alone, for products
  // What is added to the scaled scores of a row and each key, float [rows, count], bias_stride elements
  // between rows; null: nothing. Only where all keys are looked at, by attend alone.
  const float *bias;
  int64_t bias_stride;
} Head;

// Rows of one head's result, with memory for the kernel's own use.
namespace attention_kernel { // linear.h has Rows of its own
typedef struct {
  int64_t first, rows; // of the sequence
  float *y;            // [rows, d], y_stride elements between rows
  int64_t y_stride;
  void *work;           // aligned to 64
  const Head *upcoming; // what this thread reads next, to be fetched into its cache on the way; or null. k
                        // and v null: its queries alone
} Rows;
} // namespace attention_kernel
using attention_kernel::Rows;

typedef struct {
  int64_t packed, work; // bytes, multiples of 64
} AttentionBytes;

// Some rows of scale * q k^T, of keys that are packed.
typedef struct {
  int64_t first, rows; // of the queries
  int64_t from, to;    // of the keys; from: a multiple of 64
  float *y; // [rows, count], that of key 0 first; with room for rows up to a multiple of 24, keys of 64
  int64_t y_stride;
  void *work; // aligned to 64, as large as attend's
} Products;

// A row of the result depends on its query and on the sequence's keys and values, never on the rows beside
// it.
typedef struct {
  const char *name, *isa; // isa: the name in kernels.inc that this kernel belongs to
  int (*runs_here)(void);
  int precise; // 0: float32 is rounded to bfloat16 on the way
  AttentionBytes (*bytes)(int64_t count, int64_t d);
  void (*pack)(const Head *);
  void (*attend)(const Head *, const Rows *);
  // The same of keys and values as they are, for so few rows that packing them takes longer; work has
  // few_bytes.
  void (*attend_few)(const Head *, const Rows *);
  void (*products)(const Head *, const Products *);
  void (*look_up)(const LookUp *); // attention_positions.h
} Attention;

static inline int64_t key_row(const Head *h, int64_t key) { return h->keys ? h->keys[key] : key; }

// How many keys, from the first, `row` looks at: none where all that it may look at come later.
static inline int64_t keys_seen(const Head *h, int64_t row) {
  const int64_t own = h->before + row;
  if (!h->causal || key_row(h, h->count - 1) <= own)
    return h->count;
  if (!h->keys)
    return own + 1;
  int64_t from = 0, to = h->count; // the first key of a later row
  while (from < to) {
    const int64_t middle = (from + to) / 2;
    if (h->keys[middle] <= own)
      from = middle + 1;
    else
      to = middle;
  }
  return from;
}

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static inline int64_t few_bytes(int64_t count, int64_t d) {
  return 4 * (round_up(d, 16) + round_up(count, 32));
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
