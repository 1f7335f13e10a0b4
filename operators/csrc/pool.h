// Work over threads: for_each_task calls run(task) once for every task in [0, tasks), on at most as many threads
// as torch is set to use. Tasks are handed out one by one, so that a thread which is held up holds up no other;
// what a task computes must not depend on which thread runs it.
#pragma once

#include <cstdint>
#include <functional>

void for_each_task(int64_t tasks, const std::function<void(int64_t)> &run);

// At least `bytes` bytes of this thread's own, aligned to 64, the same at every call until a larger one is asked
// for; contents undefined. `slot` keeps buffers that are in use at the same time apart: 0, 1, 2 or 3.
void *scratch(int slot, int64_t bytes);
