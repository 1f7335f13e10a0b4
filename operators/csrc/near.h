// What a panel's end reads besides its weights.
#pragma once

#include <cstdint>

#include "kernels.h"

// Asks for the entries of one panel: they come from as far as its weights do, and would be waited for. null:
// there are none.
template <class T>
inline void bring_near(const T *vector, int64_t panel) {
  static_assert(sizeof(T) == 4);
  for (int i = 0; vector && i < PANEL; i += 16)
    __builtin_prefetch(vector + panel * PANEL + i);
}
