// build: x86_64 -mavx2 -mfma -ffp-contract=fast
// Attention in float with AVX2 and fused multiply-add: tiles of 6 rows by 16 columns, 12 registers of sums.
#define LANES 8
#define ROWS 6
#include "attention_float.h"
#include "attention_look_up.h"

ATTENTION_IN_FLOAT(avx2)
