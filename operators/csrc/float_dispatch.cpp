#include "float_dispatch.h"

#include "choice.h"
#include "cpu_features.h"

#define FLOAT(name, isa, runs_here)                                                                          \
  extern "C" void gemm_f32_##name(const FloatStrip *);                                                       \
  extern "C" void gemm_bf16_##name(const FloatStrip *);                                                      \
  extern "C" void gemm_w8_##name(const FloatStrip *);                                                        \
  extern "C" void convert_##name(const Convert *);
#include "float.inc"
#undef FLOAT

namespace {

const FloatKernels built[] = {
#define FLOAT(name, isa, runs_here)                                                                          \
  {#name, #isa, runs_here, gemm_f32_##name, gemm_bf16_##name, gemm_w8_##name, convert_##name},
#include "float.inc"
#undef FLOAT
};

Choice choice(built);

} // namespace

const FloatKernels &float_kernels_in_use() { return choice.in_use(); }

EXPORT_CHOICE(float, choice)
