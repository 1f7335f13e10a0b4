// The float kernels in use: the best of float.inc that runs here and belongs to no better entry of
// kernels.inc than the one in use, until opswap_float_use says another.
#pragma once

#include "float.h"

const FloatKernels &float_kernels_in_use();

extern "C" {
int opswap_float_count(void);
const char *opswap_float_name(int index);
int opswap_float_runs_here(int index);
int opswap_float_used(void);
int opswap_float_use(int index); // -1: the best again; 0 if it does not exist or cannot run here
}
