// The attention kernel in use: of attention.inc, as choice.h says; precise: or the next one that doesn't
// round float32 to bfloat16.
#pragma once

#include "attention.h"

const Attention &attention_in_use(bool precise);
