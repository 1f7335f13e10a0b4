// Work over threads of the kernels' own: steady on a machine that others use as well.
#pragma once

#include <cstdint>
#include <functional>

// Threads that torch is set to use; for_each_task uses no more.
int64_t threads();

// Calls run(task) once for every task in [0, tasks). Tasks are handed out one by one, so that a thread which
// is held up holds up no other; what a task computes must not depend on the thread that runs it. What `run`
// throws is thrown here. From inside a task, and while another thread's call is under way, all run in the
// caller.
void for_each_task(int64_t tasks, const std::function<void(int64_t)> &run);

// Whether the caller is a task: the threads are busy, and what it gives to for_each_task it does by itself.
bool inside_a_task();

// At least `bytes` bytes of this thread's own, aligned to 64, the same at every call until a larger one is
// asked for; contents undefined. `slot` keeps buffers that are in use at the same time apart: 0, 1, 2 or 3.
void *scratch(int slot, int64_t bytes);
