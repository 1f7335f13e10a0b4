// Which of a list of kernels serves: the best that runs here, whatever the other lists' are, until one is
// forced. Where an entry of kernels.inc is forced, those of this list that go with a better entry are left
// out. A kernel has a name, an isa (its entry there) and runs_here; the last of a list runs everywhere.
#pragma once

#include <atomic>
#include <cstring>

#include "dispatch.h"

template <class Kernel, int COUNT>
class Choice {
public:
  explicit Choice(const Kernel (&all)[COUNT]) : built(all) {}

  int count() const { return COUNT; }
  const Kernel &operator[](int index) const { return built[index]; }
  const Kernel &in_use() const { return built[used()]; }

  // Asked once, at the first call: under a hypervisor each question about the CPU takes microseconds.
  bool runs_here(int index) const {
    static const Answers answers(built);
    return answers.yes[index];
  }

  int used() const {
    const int fixed = forced;
    if (fixed >= 0)
      return fixed;
    const int limit = opswap_forced();
    int i = 0;
    while (rank(built[i].isa) < limit || !runs_here(i))
      i++;
    return i;
  }

  // index -1: the best again. 0 if there is no such kernel or it cannot run here.
  int use(int index) {
    if (index < -1 || index >= COUNT || (index >= 0 && !runs_here(index)))
      return 0;
    forced = index;
    return 1;
  }

private:
  struct Answers {
    bool yes[COUNT];
    explicit Answers(const Kernel (&all)[COUNT]) {
      for (int i = 0; i < COUNT; i++)
        yes[i] = all[i].runs_here();
    }
  };

  static int rank(const char *isa) { // place in kernels.inc
    int i = 0;
    while (std::strcmp(opswap_isa(i), isa) != 0)
      i++;
    return i;
  }

  const Kernel (&built)[COUNT];
  std::atomic<int> forced{-1};
};

// The functions that operators/choice.py calls, for the list that `choice` is made of.
#define EXPORT_CHOICE(kind, choice)                                                                          \
  extern "C" {                                                                                               \
  int opswap_##kind##_count(void) { return choice.count(); }                                                 \
  const char *opswap_##kind##_name(int index) { return choice[index].name; }                                 \
  int opswap_##kind##_runs_here(int index) { return choice.runs_here(index); }                               \
  int opswap_##kind##_used(void) { return choice.used(); }                                                   \
  int opswap_##kind##_use(int index) { return choice.use(index); }                                           \
  }
