#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <torch/csrc/stable/ops.h>

namespace {

// A waiting thread first spins, which answers within a microsecond and costs its core; then it gives the core
// to whoever wants it at every look; then it sleeps. The operators of one model follow each other within the
// first.
const int SPINS = 2000, YIELDS = 2000;

const uint64_t OPEN = uint64_t(1) << 31; // state: number of the job, OPEN, and how many workers are inside
const uint64_t INSIDE = OPEN - 1;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// One thread's share of a job's tasks; aligned, so that threads do not wait for each other's counters.
struct alignas(64) Part {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

class Pool {
public:
  // Runs one job at a time; a caller that comes while another has the pool, or from inside a job, works
  // alone.
  void run(int64_t tasks, int64_t threads, const std::function<void(int64_t)> &work) {
    if (inside_a_job)
      return alone(tasks, work);
    std::unique_lock<std::mutex> mine(callers, std::try_to_lock);
    if (!mine.owns_lock())
      return alone(tasks, work);
    start(threads - 1);
    job = &work, failure = nullptr;
    parts = std::vector<Part>(std::min(threads, tasks));
    for (int64_t i = 0, size = parts.size(); i < size; i++)
      parts[i].next = tasks * i / size, parts[i].end = tasks * (i + 1) / size;
    most = parts.size() - 1;
    number++;
    state.store(number << 32 | OPEN);
    if (asleep.load() > 0) {
      std::lock_guard<std::mutex> guard(sleep);
      wake.notify_all();
    }
    take(0);
    state.fetch_and(~OPEN); // who has not come by now is not waited for
    for (int i = 0; state.load() & INSIDE; i++)
      i < SPINS ? pause() : (void)sched_yield();
    if (failure)
      std::rethrow_exception(failure);
  }

  static bool inside() { return inside_a_job; }

private:
  static void alone(int64_t tasks, const std::function<void(int64_t)> &work) {
    for (int64_t task = 0; task < tasks; task++)
      work(task);
  }

  // As many as the system allows: with fewer workers the others take their parts.
  void start(int64_t workers) {
    try {
      for (; static_cast<int64_t>(started) < workers; started++)
        std::thread(&Pool::serve, this, started).detach();
    } catch (const std::system_error &) {
    }
  }

  // First this thread's own part, so that rows stay in the cache of the core that made them, then what others
  // left.
  void take(size_t index) {
    inside_a_job = true;
    try {
      for (size_t i = 0; i < parts.size(); i++) {
        Part &part = parts[(index + i) % parts.size()];
        for (int64_t task = part.next++; task < part.end; task = part.next++)
          (*job)(task);
      }
    } catch (...) { // carried to the caller
      std::lock_guard<std::mutex> guard(failing);
      failure = std::current_exception();
      for (Part &part : parts)
        part.next = part.end;
    }
    inside_a_job = false;
  }

  void serve(size_t index) {
    for (uint64_t seen = 0;;) {
      seen = await(seen);
      uint64_t now = state.load();
      // Joins only a job that is still open: the caller waits for all that are counted.
      while (now & OPEN && now >> 32 == seen && static_cast<int64_t>(index) < most.load())
        if (state.compare_exchange_weak(now, now + 1)) {
          take(index + 1);
          state.fetch_sub(1);
          break;
        }
    }
  }

  uint64_t await(uint64_t seen) {
    for (int i = 0; i < SPINS + YIELDS; i++) {
      const uint64_t now = state.load() >> 32;
      if (now != seen)
        return now;
      i < SPINS ? pause() : (void)sched_yield();
    }
    std::unique_lock<std::mutex> guard(sleep);
    asleep++;
    wake.wait(guard, [&] { return state.load() >> 32 != seen; });
    asleep--;
    return state.load() >> 32;
  }

  static thread_local bool inside_a_job;
  std::mutex callers, sleep, failing;
  std::condition_variable wake;
  std::atomic<uint64_t> state{0};
  std::atomic<int64_t> most{0}, asleep{0};
  const std::function<void(int64_t)> *job = nullptr;
  std::vector<Part> parts;
  uint64_t number = 0;
  size_t started = 0;
  std::exception_ptr failure;
};

thread_local bool Pool::inside_a_job = false;

// Never destroyed: its threads live as long as the process. A forked child has none of them, and starts anew.
std::atomic<Pool *> pool{nullptr};

Pool &the_pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
  });
  return *pool;
}

struct Free {
  void operator()(void *p) const { std::free(p); }
};

struct Buffer {
  std::unique_ptr<void, Free> memory;
  int64_t bytes = 0;
};

} // namespace

int64_t threads() { return torch::stable::get_num_threads(); }

void for_each_task(int64_t tasks, const std::function<void(int64_t)> &run) {
  const int64_t most = std::min(tasks, threads());
  if (most > 1)
    the_pool().run(tasks, most, run);
  else
    for (int64_t task = 0; task < tasks; task++)
      run(task);
}

bool inside_a_task() { return Pool::inside(); }

void *scratch(int slot, int64_t bytes) {
  thread_local Buffer buffers[4];
  Buffer &b = buffers[slot];
  if (b.bytes < bytes) {
    b.memory.reset(); // first, so that both are never held
    b.bytes = (bytes + 4095) / 4096 * 4096;
    b.memory.reset(std::aligned_alloc(64, b.bytes));
    if (!b.memory) {
      b.bytes = 0;
      throw std::bad_alloc();
    }
  }
  return b.memory.get();
}
