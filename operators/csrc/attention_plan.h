// How one call's sequences are shared among threads.
//
// Whole sequences where there are enough: all that is made of one stays in its core's cache, quantization
// included. The others head by head, so that packed keys and values are used where they were made; their rows
// are quantized when all heads are done. Where there are few heads too, these are packed first, and then
// their rows are shared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attention.h"

struct Sequence {
  int64_t first, rows;
  const int32_t *keys; // null: all
  int64_t count;
  AttentionBytes bytes;
  bool whole;
  char *packed; // one head after another; null: each task packs the head that it is at
  int64_t row_place = 0, key_place = 0; // attention_table.h
};

// Some rows of some heads.
struct Task {
  const Sequence *sequence;
  int64_t head, heads, first, rows;
};

// Multiply-adds, but for a factor.
inline int64_t work_of(const Sequence &s) { return s.rows * s.count; }

// Who takes the one at `index` of the first `whole` of `all`, longest first. Of equal ones neighbours stay
// together, as in the layer before, whose rows may still be in the thread's cache; else turn by turn, back
// and forth, so that every thread gets about as much.
inline int64_t thread_of(const std::vector<Sequence> &all, int64_t index, int64_t whole, int64_t threads) {
  if (work_of(all[0]) == work_of(all[whole - 1]))
    return index / (whole / threads);
  const int64_t turn = index / threads, at = index % threads;
  return turn % 2 ? threads - 1 - at : at;
}

// How many, from the first, are one task each, the same number for each thread. What is left is shared by
// heads; it must be enough to make up for what the threads' sequences differ in.
inline int64_t choose_whole(std::vector<Sequence> &all, int64_t threads) {
  int64_t whole = all.size() / threads * threads;
  for (; whole > 0; whole -= threads) {
    std::vector<int64_t> work(threads);
    int64_t rest = 0, missing = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(all.size()); i++)
      (i < whole ? work[thread_of(all, i, whole, threads)] : rest) += work_of(all[i]);
    const int64_t most = *std::max_element(work.begin(), work.end());
    for (int64_t one : work)
      missing += most - one;
    if (missing <= rest + most / 16)
      break;
  }
  for (int64_t i = 0; i < whole; i++)
    all[i].whole = true;
  return whole;
}

// In how many parts the rows of each head are shared: one if there are enough heads.
inline int64_t parts_of_rows(const std::vector<Sequence> &all, int64_t heads, int64_t threads) {
  int64_t tasks = 0;
  for (const Sequence &s : all)
    tasks += s.whole ? 0 : heads;
  return tasks == 0 || tasks % threads == 0 || tasks >= 8 * threads ? 1 : (8 * threads + tasks - 1) / tasks;
}

// One thread's tasks after another's, for each first whole sequences, then heads.
inline std::vector<Task> tasks_of(const std::vector<Sequence> &all, int64_t whole, int64_t heads,
                                  int64_t parts, int64_t threads) {
  std::vector<Task> pieces, tasks;
  for (const Sequence &s : all) {
    const int64_t step = round_up((s.rows + parts - 1) / parts, 24);
    for (int64_t head = 0; !s.whole && head < heads; head++)
      for (int64_t row = 0; row < s.rows; row += step)
        pieces.push_back(Task{&s, head, 1, row, std::min(step, s.rows - row)});
  }
  const int64_t count = pieces.size();
  for (int64_t thread = 0; thread < threads; thread++) {
    for (int64_t i = 0; i < whole; i++)
      if (thread_of(all, i, whole, threads) == thread)
        tasks.push_back(Task{&all[i], 0, heads, 0, all[i].rows});
    tasks.insert(tasks.end(), pieces.begin() + count * thread / threads,
                 pieces.begin() + count * (thread + 1) / threads);
  }
  return tasks;
}

struct Span {
  int64_t first, rows; // of qkv
};

// The rows of sequences that are not whole, a few at a time.
inline std::vector<Span> spans_of(const std::vector<Sequence> &all) {
  std::vector<Span> spans;
  for (const Sequence &s : all)
    for (int64_t row = 0; !s.whole && row < s.rows; row += 16)
      spans.push_back(Span{s.first + row, std::min<int64_t>(16, s.rows - row)});
  return spans;
}
