// What this CPU can run, and the operating system lets it: 1 or 0.
#pragma once

int always(void);
int cpu_has_avx2(void); // and FMA
int cpu_has_avx512(void);
int cpu_has_avx512bf16(void);
int cpu_has_avxvnni(void);
int cpu_has_avx512vnni(void);
int cpu_has_amx_int8(void); // asks Linux for the permission to use it, which the process then has
