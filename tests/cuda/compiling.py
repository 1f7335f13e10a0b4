"""Compiles kernels for GPUs that are not there, through their own wrappers: `python -m tests.cuda.compiling 90`.

Prints a line for each kernel as JSON: its name, the matrix instructions in its PTX, registers, bytes of stack, bytes of
shared memory, and how often a product and a sum are rounded as one. Runs without TRITON_INTERPRET, in a process of its
own.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from operators.floating import ACTIVATIONS, GELUS
from operators.gate import ACTIVATIONS as ACTIVATIONS_OF_GATES
from operators.triton import embed, fp8, gate, gate_rows, int8, layer_norm, rotary, rows, tiles, weight_only
from operators.triton.levels import FP8, Levels
from operators.triton.source import Parts

M, N, K = 48, 384, 1536
STATIC = Levels.of(False, 0.02, 100)


def empty(*size: int, dtype: torch.dtype = torch.float32) -> Any:
    return torch.empty(size, dtype=dtype)


def compile_only(chip: int) -> None:
    """From now on a launch compiles for sm_<chip>, says so, and runs nothing."""
    target = GPUTarget("cuda", chip, 32)
    driver.set_active(
        SimpleNamespace(  # type: ignore[arg-type]
            get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda device: 0
        )
    )
    run = JITFunction.run

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        print(json.dumps(described(self, run(self, *args, grid=grid, warmup=True, **kwargs))), flush=True)

    JITFunction.run = compiled  # type: ignore[method-assign]


def described(function: Any, kernel: Any) -> dict[str, Any]:
    found = re.findall(r"wgmma\.mma_async[\w.]*|mma\.sync[\w.]*", kernel.asm["ptx"])
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0]
    return {
        "kernel": function.fn.__name__, "matrix": sorted(set(found)), "registers": int(registers),
        "stack": int(stack), "shared": kernel.metadata.shared, "fma": len(re.findall(r"\bfma\.rn", kernel.asm["ptx"])),
    }  # fmt: skip


def compile_rows() -> None:
    """Every row kernel, in the forms that a model of precision int and fp8 uses"""
    x, half = empty(M, N), empty(M, N, dtype=torch.float16)
    weight = _int8_weight()
    parts = Parts(empty(2, M, N, dtype=torch.int32), empty(M), empty(M, dtype=torch.int32), *_ends(weight), True)
    norm = layer_norm.Norm(empty(N), empty(N), 1e-5, torch.float16, Levels.of(False))
    for levels in (Levels.of(False), Levels.of(True), STATIC, *([Levels(FP8)] if tiles.chip() != "sm_80" else [])):
        rows.quantize(half, levels)
        layer_norm.norm(half, half, norm._replace(levels=levels))
    for activation in ACTIVATIONS:
        rows.scale_parts(parts, torch.float16, activation)
    for gelu in GELUS:
        rows.gelu_parts(parts, Levels.of(False), gelu)
    layer_norm.norm_parts(parts, half, norm)
    kept = norm._replace(dtype=torch.float32, keeps_sum=True)
    layer_norm.norm_parts(parts, x, kept)
    layer_norm.norm_parts(parts, x, kept._replace(rms=True))
    ids = empty(M, dtype=torch.int64)
    embed.embed_norm([ids] * 3, [x] * 3, norm)
    embed.embed_norm([ids] * 2, [x] * 2, kept)


def compile_rotated() -> None:
    """Rows in blocks, by a scale of their own and a given one: of floats, sums, norms and gates, and as wide as Llama 3
    has them"""
    x, half, wide = empty(M, N), empty(M, N, dtype=torch.float16), empty(M, 2 * 14_336, dtype=torch.float16)
    weight, levels = _int8_weight(), Levels.of(False, rotation=128)
    parts = Parts(empty(2, M, N, dtype=torch.int32), empty(M), empty(M, dtype=torch.int32), *_ends(weight), True)
    norm = layer_norm.Norm(empty(N), empty(N), 1e-5, torch.float32, levels, (empty(N), empty(N)), True, True)
    rows.quantize(half, levels)
    rows.gelu_parts(parts, Levels.of(False, 0.1, 120, 16), "gelu_tanh")
    layer_norm.norm_parts(parts, x, norm)
    embed.embed_norm([empty(M, dtype=torch.int64)] * 3, [x] * 3, norm)
    gate_rows(wide, levels, "silu", False)


def compile_rotary() -> None:
    """Heads of the usual size, as int and fp8 have them and as bf16; and of which a part is turned, in pairs"""
    x, angles = empty(M, N), empty(M, 64)
    rotary(x.half(), angles, angles, 64, 4)
    rotary(x.bfloat16(), angles.bfloat16(), angles.bfloat16(), 64, 4)
    rotary(x, empty(M, 24), empty(M, 24), 96, 4, True, empty(4 * 96), 1e-6, torch.float16)


def compile_gates() -> None:
    """On floats and on sums; and as wide as Llama 3 has them, whose rows are quantized whole"""
    weight = _int8_weight()
    parts = Parts(empty(2, M, N, dtype=torch.int32), empty(M), empty(M, dtype=torch.int32), *_ends(weight), True)
    for dtype, second in ((torch.float16, False), (torch.bfloat16, True)):
        gate(empty(M, N, dtype=dtype), "silu", second)
    for activation in ACTIVATIONS_OF_GATES:
        gate_rows(parts, Levels.of(False), activation, False)
    for columns in (8192, 14_336):
        gate_rows(empty(M, 2 * columns, dtype=torch.float16), Levels.of(False), "silu", False)
    if tiles.chip() != "sm_80":
        gate_rows(empty(M, N, dtype=torch.float16), Levels(FP8), "silu", False)


def compile_linears() -> None:
    """The matrix kernels with the tiles that the chip's table has"""
    table = tiles.table()["chips"][tiles.chip()]
    given = (empty(M, K, dtype=torch.int8), empty(M), empty(M, dtype=torch.int32))
    whole = tiles.chip() == "sm_90"  # elsewhere the first tile and the last, the largest
    for entry in table["int8"] if whole else table["int8"][:: len(table["int8"]) - 1]:
        tile = tiles.Tile(**entry["tile"])
        int8.linear_int8_parts(given, _int8_weight(), tile)
        for gelu in GELUS:
            int8.linear_int8(given, _int8_weight(), torch.float16, gelu, tile)
    for gelu in GELUS:
        int8.linear_int8_levels(given, _int8_weight(), STATIC, gelu)
    only = weight_only.Weight(empty(N, K, dtype=torch.int8), empty(N), empty(N))
    for m in (1, M):
        weight_only.linear_w8(empty(m, K), only)
    if tiles.chip() == "sm_80":
        return  # it has no units for FP8
    for entry in table["fp8"] if whole else table["fp8"][-1:]:
        weight = fp8.Weight(empty(N, K, dtype=torch.float8_e4m3fn), empty(N), empty(N))
        q = empty(M, K, dtype=torch.float8_e4m3fn), *given[1:]
        for gelu in GELUS:
            fp8.linear_fp8(q, weight, torch.float16, gelu, tiles.Tile(**entry["tile"]))


def _int8_weight() -> int8.Weight:
    return int8.Weight(empty(N, K, dtype=torch.int8), empty(N), empty(N, dtype=torch.int32), empty(N), True)


def _ends(weight: int8.Weight) -> tuple[Any, ...]:
    return weight.scale, weight.total, weight.bias


KINDS = {
    "rows": compile_rows,
    "rotated": compile_rotated,
    "rotary": compile_rotary,
    "gates": compile_gates,
    "linears": compile_linears,
}


def main(chip: int, which: str) -> None:
    compile_only(chip)
    tiles.chip = lambda: f"sm_{chip}"  # type: ignore[assignment]
    KINDS[which]()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
