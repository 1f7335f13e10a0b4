#include "pool.h"

#include <cstdlib>
#include <memory>

#include <torch/csrc/stable/ops.h>

namespace {

struct Free {
  void operator()(void *p) const { std::free(p); }
};

struct Buffer {
  std::unique_ptr<void, Free> memory;
  int64_t bytes = 0;
};

} // namespace

void for_each_task(int64_t tasks, const std::function<void(int64_t)> &run) {
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; task++)
      run(task);
  });
}

void *scratch(int slot, int64_t bytes) {
  thread_local Buffer buffers[4];
  Buffer &b = buffers[slot];
  if (b.bytes < bytes) {
    b.bytes = (bytes + 4095) / 4096 * 4096;
    b.memory.reset(std::aligned_alloc(64, b.bytes));
  }
  return b.memory.get();
}
