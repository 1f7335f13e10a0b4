// The kernels in use: the best of kernels.inc that runs here, until opswap_use says another.
#pragma once

#include "kernels.h"

const Kernels &kernels_in_use();

extern "C" {
int opswap_count(void);            // kernels built
const char *opswap_isa(int index); // name of one, best first
int opswap_runs_here(int index);   // can this CPU run it?
int opswap_used(void);             // index of the one in use
int opswap_forced(void);           // index of the one that opswap_use said; -1: none
int opswap_use(int index);         // use this one, -1: the best; 0 if it does not exist or cannot run here
}
