#include "dispatch.h"

#include <atomic>

#include "cpu_features.h"

#define KERNELS(name, runs_here)                                                                             \
  extern "C" void gemm_##name(const Strip *);                                                                \
  extern "C" void quantize_##name(const Row *, int64_t);                                                     \
  extern "C" void gelu_##name(float *, const Row *, int64_t, int);                                           \
  extern "C" void gate_##name(const Gate *, const Row *, int64_t);                                           \
  extern "C" void norm_##name(const Norm *, const Row *, int64_t);                                           \
  extern "C" void rotary_##name(const Heads *);
#include "kernels.inc"
#undef KERNELS

namespace {

const Kernels built[] = {
#define KERNELS(name, runs_here)                                                                             \
  {#name, runs_here, gemm_##name, quantize_##name, gelu_##name, gate_##name, norm_##name, rotary_##name},
#include "kernels.inc"
#undef KERNELS
};
const int count = sizeof(built) / sizeof(built[0]);

int best() {
  int i = 0;
  while (!built[i].runs_here()) // the last one always does
    i++;
  return i;
}

std::atomic<int> forced{-1};

} // namespace

const Kernels &kernels_in_use() { return built[opswap_used()]; }

int opswap_count(void) { return count; }
const char *opswap_isa(int index) { return built[index].isa; }
int opswap_runs_here(int index) { return built[index].runs_here(); }
int opswap_forced(void) { return forced; }

int opswap_used(void) {
  static const int first = best();
  const int fixed = forced;
  return fixed >= 0 ? fixed : first;
}

int opswap_use(int index) {
  if (index < -1 || index >= count || (index >= 0 && !built[index].runs_here()))
    return 0;
  forced = index;
  return 1;
}
