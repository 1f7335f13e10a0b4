// The attention kernel in use: the best of attention.inc that runs here and is no better than the kernels in
// use (dispatch.h), unless opswap_attention_use names one.
#pragma once

#include "attention.h"

const Attention &attention_in_use();

extern "C" {
int opswap_attention_count(void);             // kernels built
const char *opswap_attention_name(int index); // of one, best first
int opswap_attention_runs_here(int index);    // can this CPU run it?
int opswap_attention_used(void);              // index of the one in use
int opswap_attention_use(int index);          // use this one, or with -1 the best; 0 if it cannot run here
}
