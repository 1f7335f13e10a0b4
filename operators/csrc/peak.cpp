// The list of peak.inc for operators/peak.py: names, whether one runs here, and a run on the calling thread.
#include <cstdint>

#include "cpu_features.h"

#define PEAK(type, isa, runs_here) extern "C" int64_t peak_##type##_##isa(int64_t loops);
#include "peak.inc"
#undef PEAK

namespace {

struct Peak {
  const char *type, *isa;
  int (*runs_here)(void);
  int64_t (*run)(int64_t loops);
};

const Peak peaks[] = {
#define PEAK(type, isa, runs_here) {#type, #isa, runs_here, peak_##type##_##isa},
#include "peak.inc"
#undef PEAK
    {nullptr, nullptr, nullptr, nullptr},
};

} // namespace

extern "C" {
// The number of peaks in the list; the functions below take an index below it.
int opswap_peak_count() { return sizeof(peaks) / sizeof(peaks[0]) - 1; }
const char *opswap_peak_type(int index) { return peaks[index].type; }
const char *opswap_peak_isa(int index) { return peaks[index].isa; }
int opswap_peak_runs_here(int index) { return peaks[index].runs_here(); }
// Runs that many loops and returns the multiply-adds done.
int64_t opswap_peak_run(int index, int64_t loops) { return peaks[index].run(loops); }
}
