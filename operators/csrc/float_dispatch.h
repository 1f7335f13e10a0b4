// The float kernels in use: of float.inc, as choice.h says.
#pragma once

#include "float.h"

const FloatKernels &float_kernels_in_use();
