// Attention in float for any CPU: registers of four floats, tiles of 4 rows by 8 columns.
#define LANES 4
#define ROWS 4
#include "attention_float.h"
#include "attention_look_up.h"

ATTENTION_IN_FLOAT(portable)
