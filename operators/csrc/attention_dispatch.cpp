#include "attention_dispatch.h"

#include "choice.h"
#include "cpu_features.h"

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

Choice choice(built);

} // namespace

const Attention &attention_in_use() { return choice.in_use(); }

EXPORT_CHOICE(attention, choice)
