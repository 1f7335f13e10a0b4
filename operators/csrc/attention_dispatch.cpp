#include "attention_dispatch.h"

#include "choice.h"
#include "cpu_features.h"

#define ATTENTION(name, isa, runs_here, precise, few)                                                        \
  extern "C" AttentionBytes attention_bytes_##name(int64_t, int64_t);                                        \
  extern "C" void attention_pack_##name(const Head *);                                                       \
  extern "C" void attention_attend_##name(const Head *, const Rows *);                                       \
  extern "C" void attention_few_##few(const Head *, const Rows *);                                           \
  extern "C" void attention_products_##name(const Head *, const Products *);                                 \
  extern "C" void attention_look_up_##name(const LookUp *);
#include "attention.inc"
#undef ATTENTION

namespace {

const Attention built[] = {
#define ATTENTION(name, isa, runs_here, precise, few)                                                        \
  {#name,                                                                                                    \
   #isa,                                                                                                     \
   runs_here,                                                                                                \
   precise,                                                                                                  \
   attention_bytes_##name,                                                                                   \
   attention_pack_##name,                                                                                    \
   attention_attend_##name,                                                                                  \
   attention_few_##few,                                                                                      \
   attention_products_##name,                                                                                \
   attention_look_up_##name},
#include "attention.inc"
#undef ATTENTION
}; // namespace

Choice choice(built);

} // namespace

const Attention &attention_in_use(bool precise) {
  int i = choice.used();
  while (precise && !(built[i].precise && choice.runs_here(i)))
    i++; // the last is precise and runs everywhere
  return built[i];
}

EXPORT_CHOICE(attention, choice)
