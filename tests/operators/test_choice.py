"""Which kernels a CPU gets that has less, or more, than this one: csrc's lists and choice, as a program of its own."""

import platform
import subprocess
from pathlib import Path

import pytest

from operators import build

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere each list has one entry")

# ./choose HAS [ISA...] forces each ISA in turn and prints what then serves: for bytes, for floats, for attention.
# The CPU's answers and the kernels are made up.
PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "attention_dispatch.h"
#include "cpu_features.h"
#include "dispatch.h"
#include "float_dispatch.h"

static int has; // bits: AVX2, AVX-VNNI, AVX-512, its VNNI, its BF16, AMX
int always(void) { return 1; }
int cpu_has_avx2(void) { return has & 1; }
int cpu_has_avxvnni(void) { return has >> 1 & 1; }
int cpu_has_avx512(void) { return has >> 2 & 1; }
int cpu_has_avx512vnni(void) { return has >> 3 & 1; }
int cpu_has_avx512bf16(void) { return has >> 4 & 1; }
int cpu_has_amx_int8(void) { return has >> 5 & 1; }

extern "C" {
#define KERNELS(name, runs_here)            \\
  void gemm_##name(const Strip *) {}        \\
  void quantize_##name(const Row *) {}      \\
  void gelu_##name(float *, const Row *) {} \\
  void gate_##name(const Gate *, const Row *) {} \\
  void norm_##name(const Norm *, const Row *) {} \\
  void rotary_##name(const Heads *) {}
#include "kernels.inc"
#define FLOAT(name, isa, runs_here)            \\
  void gemm_f32_##name(const FloatStrip *) {}  \\
  void gemm_bf16_##name(const FloatStrip *) {} \\
  void gemm_w8_##name(const FloatStrip *) {}   \\
  void convert_##name(const Convert *) {}
#include "float.inc"
#define ATTENTION(name, isa, runs_here, precise, few)                    \\
  AttentionBytes attention_bytes_##name(int64_t, int64_t) { return {}; } \\
  void attention_pack_##name(const Head *) {}                            \\
  void attention_attend_##name(const Head *, const Rows *) {}            \\
  void attention_products_##name(const Head *, const Products *) {}      \\
  void attention_look_up_##name(const LookUp *) {}                       \\
  void attention_few_##name(const Head *, const Rows *) {}
#include "attention.inc"
}

int main(int count, char **arguments) {
  has = atoi(arguments[1]);
  for (int at = 1; at < count; at++) {
    int isa = at == 1 ? -1 : 0;
    while (isa >= 0 && strcmp(opswap_isa(isa), arguments[at]))
      isa++;
    if (!opswap_use(isa))
      printf("refused ");
    printf("%s %s %s\\n", opswap_isa(opswap_used()), float_kernels_in_use().name, attention_in_use(false).name);
  }
}
"""
AVX2, AVXVNNI, AVX512, VNNI, BF16, AMX = (1 << bit for bit in range(6))
WIDE = AVX2 | AVX512
CPUS = {
    "none of them": (0, "portable portable portable"),
    "AVX2": (AVX2, "avx2 avx2 avx2"),
    "AVX-VNNI": (AVX2 | AVXVNNI, "avxvnni avx2 avx2"),
    "AVX-512 without VNNI": (WIDE, "avx2 avx512 avx512"),
    "AVX512-VNNI": (WIDE | AVXVNNI | VNNI, "avx512vnni avx512 avx512"),
    "AVX512-BF16": (WIDE | VNNI | BF16, "avx512vnni avx512bf16 avx512bf16"),
    "AMX": (WIDE | VNNI | BF16 | AMX, "amx avx512bf16 avx512bf16"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice")
    (folder / "choose.cpp").write_text(PROGRAM)
    sources = [build.SOURCES / f"{kind}dispatch.cpp" for kind in ("", "float_", "attention_")]
    paths = [*map(str, sources), str(folder / "choose.cpp"), "-o", str(folder / "choose")]
    done = subprocess.run(
        [*build.compiler(), "-std=c++17", f"-I{build.SOURCES}", *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "choose"


def chosen(program: Path, has: int, *forced: str) -> list[str]:
    command = [str(program), str(has), *forced]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("cpu", CPUS)
def test_each_kind_by_what_it_needs_itself(program: Path, cpu: str) -> None:
    has, want = CPUS[cpu]
    assert chosen(program, has) == [want]


def test_forced_kernels_hold_the_other_kinds_back(program: Path) -> None:
    best, *forced = chosen(program, WIDE, "avx2", "portable", "avx512vnni")
    assert best == "avx2 avx512 avx512"
    assert forced == ["avx2 avx2 avx2", "portable portable portable", "refused portable portable portable"]
