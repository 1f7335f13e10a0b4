#include "attention_dispatch.h"

#include <atomic>
#include <cstring>

#include "cpu_features.h"
#include "dispatch.h"

#define ATTENTION(name, isa, runs_here)                                                                      \
  extern "C" AttentionBytes attention_bytes_##name(int64_t, int64_t);                                        \
  extern "C" void attention_pack_##name(const Head *);                                                       \
  extern "C" void attention_attend_##name(const Head *, const Rows *);
#include "attention.inc"
#undef ATTENTION

namespace {

const Attention built[] = {
#define ATTENTION(name, isa, runs_here)                                                                      \
  {#name, #isa, runs_here, attention_bytes_##name, attention_pack_##name, attention_attend_##name},
#include "attention.inc"
#undef ATTENTION
};
const int count = sizeof(built) / sizeof(built[0]);

std::atomic<int> forced(-1);

// Asked once: cpuid takes microseconds on a virtual machine.
bool runs_here(int index) {
  struct Answers {
    bool yes[count];
    Answers() {
      for (int i = 0; i < count; i++)
        yes[i] = built[i].runs_here();
    }
  };
  static const Answers answers;
  return answers.yes[index];
}

int rank(const char *isa) {
  int i = 0;
  while (i < opswap_count() && std::strcmp(opswap_isa(i), isa) != 0)
    i++;
  return i;
}

} // namespace

const Attention &attention_in_use() { return built[opswap_attention_used()]; }

int opswap_attention_count(void) { return count; }
const char *opswap_attention_name(int index) { return built[index].name; }
int opswap_attention_runs_here(int index) { return runs_here(index); }

int opswap_attention_used(void) {
  if (forced >= 0)
    return forced;
  int i = 0;
  while (i + 1 < count && (rank(built[i].isa) < opswap_used() || !runs_here(i)))
    i++;
  return i;
}

int opswap_attention_use(int index) {
  if (index >= count || (index >= 0 && !runs_here(index)))
    return 0;
  forced = index < 0 ? -1 : index;
  return 1;
}
