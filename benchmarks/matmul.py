"""How near the int8 linear operators are to what the CPU can do: `python -m benchmarks.matmul --threads 1 --threads 2`.

Two tables. Many rows are bound by arithmetic: their share of the peak that dot-product instructions on registers reach.
Few rows are bound by the weights, which come from memory: bytes of weights a second, beside what a plain sum reads.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.measure import PAUSE
from benchmarks.one_line import OneLine
from benchmarks.report import PEAK
from benchmarks.table import in_markdown, in_threads
from models.memory import keep_freed_memory
from operators import kernels, peak
from operators.calls import line_of
from operators.reference import pack_weight
from operators.weight_only import pack_weight_w8
from targets.base import TargetUnavailable

SHAPES = ("384x1024x4096", "384x4096x1024", "384x1024x1024", "128x768x768", "384x384x1536")  # of BERTs' linears
FEW = (1, 4, 8, 16)  # rows: a token of a language model, or a question of some words
WIDE = (4096, 1024)  # [N, K] of the weights that few rows are multiplied with
OPS = torch.ops.opswap

Call = Callable[[], object]


@dataclass(frozen=True)
class Weights:
    """One linear [N, K] of random integers: as the int8 and as the weight-only operators want it."""

    packed: Tensor
    packed_w8: Tensor
    sum: Tensor
    scale: Tensor
    bias: Tensor


def weights_of(n: int, k: int) -> Weights:
    weight = torch.randint(-127, 128, (n, k), dtype=torch.int8)
    total = weight.sum(1, dtype=torch.int32)
    return Weights(pack_weight(weight), pack_weight_w8(weight), total, torch.rand(n), torch.rand(n))


def linears(x: Tensor, weights: Weights) -> dict[str, partial[Any]]:
    """By name, the operators with their arguments: on float32 rows x [M, K], and on their bytes."""
    q, scale, zero = OPS.quantize_per_token(x, False, 0.0, 0)
    w = weights
    return {
        "bytes in": partial(OPS.linear_int8_rows.default, q, scale, zero, w.packed, w.sum, w.scale, w.bias),
        "floats in": partial(OPS.linear_int8.default, x, w.packed, w.sum, w.scale, w.bias, False, 0.0, 0, 0),
        "weight only": partial(OPS.linear_w8.default, x, w.packed_w8, w.scale, w.bias, "none"),
    }


def in_one_call(many: Sequence[partial[Any]]) -> Call:
    """→ what calls all of them as one, as a lowered graph does; it gives back the last one's result"""
    tensors = list({id(given): given for one in many for given in one.args if isinstance(given, Tensor)}.values())
    number = {id(tensor): place for place, tensor in enumerate(tensors)}
    lines = []
    for made, one in enumerate(many, len(tensors)):
        lines.append(line_of(one.func, [number.get(id(given), given) for given in one.args], [made]))
        lines.append(f"drop {made}")
    lines[-1] = f"return [{made}]"
    text = "\n".join([str(len(tensors) + len(many)), *lines])
    return lambda: OPS.calls([], [], tensors, text)


def seconds(call: Call, calls: int) -> float:
    """The least of `calls`, after a first one."""
    call()
    found = []
    for _ in range(calls):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return min(found)


def shares(shape: tuple[int, int, int], threads: int, rounds: int, calls: int) -> dict[str, float]:
    """M, K, N → share of the peak measured in the same round, by operator; the median of the rounds."""
    m, k, n = shape
    todo = linears(torch.randn(m, k), weights_of(n, k))
    found: dict[str, list[float]] = {name: [] for name in ("bytes in", "floats in")}
    for _ in range(rounds):
        least = 2e-12 * m * k * n / peak.measure(threads)[PEAK].tops
        for name, each in found.items():
            each.append(least / seconds(todo[name], calls))
    return {name: statistics.median(each) for name, each in found.items()}


def streamed(rows: int, many: Sequence[Weights], rounds: int) -> dict[str, float]:
    """→ 10⁹ bytes of weights a second, by operator: all of `many` as one call, so that each comes from memory; the
    median of the rounds, with that of a plain sum of as many bytes"""
    x = torch.randn(rows, WIDE[1])
    calls = [linears(x, one) for one in many]
    floats = torch.ones(len(many) * WIDE[0] * WIDE[1] // 4)
    todo: dict[str, Call] = {name: in_one_call([each[name] for each in calls]) for name in calls[0]}
    todo["a plain sum"] = floats.sum
    found: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(rounds):
        for name, call in todo.items():
            time.sleep(PAUSE)  # PyTorch's threads spin after its sum, on the cores that ours want
            call()
            begun = time.perf_counter()
            call()
            found[name].append(1e-9 * 4 * floats.numel() / (time.perf_counter() - begun))
    return {name: statistics.median(each) for name, each in found.items()}


def shares_table(shapes: Iterable[str], threads: Sequence[int], rounds: int, calls: int) -> str:
    columns = ["M, K, N"] + [f"{name}, {in_threads(count)}" for count in threads for name in ("bytes in", "floats in")]
    body = []
    for shape in shapes:
        m, k, n = (int(size) for size in shape.split("x"))
        row = [f"{m}, {k}, {n}"]
        for count in threads:
            torch.set_num_threads(count)
            row += [f"{100 * share:.0f}%" for share in shares((m, k, n), count, rounds, calls).values()]
        body.append(row)
    return in_markdown(columns, body)


def streamed_table(threads: Sequence[int], rounds: int, megabytes: int) -> str:
    one = weights_of(*WIDE)
    many = [one] + [
        Weights(one.packed.clone(), one.packed_w8.clone(), one.sum, one.scale, one.bias)
        for _ in range(megabytes * 10**6 // one.packed.numel())
    ]
    body = []
    for rows in FEW:
        for count in threads:
            torch.set_num_threads(count)
            found = streamed(rows, many, rounds)
            body.append([f"{rows}, {in_threads(count)}", *(f"{rate:.1f}" for rate in found.values())])
    return in_markdown(["M", *found], body)


def _shape(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for shape in given:
        sizes = shape.split("x")
        if len(sizes) != 3 or not all(size.isdecimal() and int(size) for size in sizes):
            raise click.BadParameter(f"wanted MxKxN, three sizes from 1 on; got {shape}; for one 384x1024x4096")
    return given


@click.command(cls=OneLine)
@click.option("--shape", "shapes", multiple=True, default=SHAPES, show_default=True, callback=_shape,
              help="MxKxN; repeatable.")  # fmt: skip
@click.option("--threads", multiple=True, type=click.IntRange(1), default=(1,), show_default=True, help="Repeatable.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="The median of these counts.")
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True,
              help="Calls a round, of which the best counts.")  # fmt: skip
@click.option("--megabytes", type=click.IntRange(1), default=256, show_default=True,
              help="Weights for few rows: far more than the caches hold.")  # fmt: skip
def main(shapes: tuple[str, ...], threads: tuple[int, ...], rounds: int, calls: int, megabytes: int) -> None:
    """The int8 linear operators' share of the measured peak, and how fast few rows read their weights."""
    kernels.load()
    if kernels.library() is None:
        raise TargetUnavailable(f"the kernels are not compiled: {kernels.status().reason}")
    keep_freed_memory()
    torch.manual_seed(0)
    with torch.inference_mode():
        click.echo(f"Share of the measured {PEAK} peak, best of {calls} calls\n")
        click.echo(shares_table(shapes, threads, rounds, calls))
        click.echo(f"\n10⁹ bytes of weights a second, K = {WIDE[1]}, N = {WIDE[0]}, from memory\n")
        click.echo(streamed_table(threads, rounds, megabytes))


if __name__ == "__main__":
    main()
