// The attention kernel in use: of attention.inc, as choice.h says.
#pragma once

#include "attention.h"

const Attention &attention_in_use();
