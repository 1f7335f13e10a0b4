// build: x86_64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512 -ffp-contract=fast
// Attention in float with AVX-512: tiles of 12 rows by 32 columns, 24 registers of sums.
#define LANES 16
#define ROWS 12
#include "attention_float.h"
#include "attention_look_up_avx512.h"

ATTENTION_IN_FLOAT(avx512)
