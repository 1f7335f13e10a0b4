// What this CPU can run, and the operating system lets it: 1 or 0.
#pragma once

int always(void);
int cpu_has_avx2(void);
int cpu_has_avx2_fma(void);
int cpu_has_avx512vnni(void);
int cpu_has_avx512bf16(void);
