#include "float_dispatch.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "cpu_features.h"
#include "dispatch.h"

#define FLOAT(name, isa, runs_here)                                                                          \
  extern "C" void gemm_f32_##name(const FloatStrip *);                                                       \
  extern "C" void gemm_bf16_##name(const FloatStrip *);                                                      \
  extern "C" void convert_##name(const Convert *);
#include "float.inc"
#undef FLOAT

namespace {

const FloatKernels built[] = {
#define FLOAT(name, isa, runs_here)                                                                          \
  {#name, #isa, runs_here, gemm_f32_##name, gemm_bf16_##name, convert_##name},
#include "float.inc"
#undef FLOAT
};
const int count = sizeof(built) / sizeof(built[0]);

std::atomic<int> forced(-1);

// Asked once: under a hypervisor each question about the CPU takes microseconds.
bool runs_here(int index) {
  static const std::vector<bool> answers = [] {
    std::vector<bool> all;
    for (const FloatKernels &one : built)
      all.push_back(one.runs_here());
    return all;
  }();
  return answers[index];
}

int rank(const char *isa) { // place in kernels.inc
  int i = 0;
  while (std::strcmp(opswap_isa(i), isa))
    i++;
  return i;
}

int best() {
  const int limit = opswap_used();
  int i = 0;
  while (rank(built[i].isa) < limit || !runs_here(i)) // the last one always does
    i++;
  return i;
}

} // namespace

int opswap_float_count(void) { return count; }
const char *opswap_float_name(int index) { return built[index].name; }
int opswap_float_runs_here(int index) { return runs_here(index); }
int opswap_float_used(void) { return forced < 0 ? best() : forced.load(); }

int opswap_float_use(int index) {
  if (index < -1 || index >= count || (index >= 0 && !runs_here(index)))
    return 0;
  forced = index;
  return 1;
}

const FloatKernels &float_kernels_in_use() { return built[opswap_float_used()]; }
