#include "cpu_features.h"

int always(void) { return 1; }

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf leaf(unsigned number, unsigned part = 0) {
  Leaf l;
  __get_cpuid_count(number, part, &l.a, &l.b, &l.c, &l.d);
  return l;
}

bool bit(unsigned word, int at) { return word >> at & 1; }

// Does the operating system save these registers when it switches threads? (XCR0; only readable with OSXSAVE)
bool saves(unsigned mask) {
  if (!bit(leaf(1).c, 27))
    return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & mask) == mask;
}

// SSE, AVX; and the mask registers and both halves of the wide ones; AMX's configuration and tiles
const unsigned YMM = 0x6, ZMM = 0xe6, TILES = 0x60000;

} // namespace

int cpu_has_avx2(void) { return saves(YMM) && bit(leaf(7).b, 5) && bit(leaf(1).c, 12); } // and FMA

int cpu_has_avxvnni(void) { return cpu_has_avx2() && bit(leaf(7, 1).a, 4); }

int cpu_has_avx512(void) {
  const Leaf l = leaf(7);
  const bool f = bit(l.b, 16), dq = bit(l.b, 17), bw = bit(l.b, 30), vl = bit(l.b, 31);
  return saves(ZMM) && f && dq && bw && vl;
}

int cpu_has_avx512bf16(void) { return cpu_has_avx512() && bit(leaf(7, 1).a, 5); }

int cpu_has_avx512vnni(void) { return cpu_has_avx512() && bit(leaf(7).c, 11); }

int cpu_has_amx_int8(void) {
#if defined(__linux__)
  const long request = 0x1023,
             tile_data = 18; // ARCH_REQ_XCOMP_PERM; Linux keeps the tiles from whoever did not ask
  const bool tile = bit(leaf(7).d, 24), int8 = bit(leaf(7).d, 25);
  return cpu_has_avx512() && saves(TILES) && tile && int8 && syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return 0;
#endif
}
#else
int cpu_has_avx2(void) { return 0; }
int cpu_has_avxvnni(void) { return 0; }
int cpu_has_avx512(void) { return 0; }
int cpu_has_avx512bf16(void) { return 0; }
int cpu_has_avx512vnni(void) { return 0; }
int cpu_has_amx_int8(void) { return 0; }
#endif
