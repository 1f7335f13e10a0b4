"""What was measured on the hardware, by others, and the parameters of the cycle model that fit it best.

`python -m targets.aie.measured` prints the points beside the model, and beside the model as it would be without them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from targets.aie.cycles import Gemm, Tile, cost, kernel_cycles
from targets.aie.devices import BUILT_IN, BYTES, Device

PAPER = {"xdna": 15e9, "xdna2": 50e9}  # effective DRAM bandwidth, bytes a second, as the paper says it: "about"
TRUST = 0.2  # the model's own error over that of "about": 2% over 10%, for the weight of the paper's word


@dataclass(frozen=True)
class Point:
    """A kernel (multiply-adds a cycle of one compute tile) or a whole GEMM (10¹² operations a second), the other is
    None. `gemm` of a kernel: its types only."""

    device: str
    tile: Tile
    gemm: Gemm
    macs_per_cycle: float | None = None
    tops: float | None = None

    def __str__(self) -> str:
        what = "kernel" if self.tops is None else f"GEMM {self.gemm.m}×{self.gemm.k}×{self.gemm.n}"
        return f"{self.device} {self.gemm.dtype}→{self.gemm.out} {self.tile} {what}"


def _pair(
    device: str, types: str, tile: tuple[int, int, int], macs: float, sizes: tuple[int, int, int], tops: float
) -> list[Point]:
    dtype, out = types.split("→")
    gemm = Gemm(*sizes, out, dtype)
    return [Point(device, Tile(*tile), gemm, macs_per_cycle=macs), Point(device, Tile(*tile), gemm, tops=tops)]


# arXiv 2512.13282: its balanced designs, B column-major; the last one is the best kernel on its own, from its table 1
POINTS: tuple[Point, ...] = (
    *_pair("xdna", "int8→int8", (112, 112, 112), 212.5, (4032, 4032, 4032), 6.52),
    *_pair("xdna", "int8→int16", (96, 112, 96), 192.0, (4224, 4032, 4224), 5.85),
    *_pair("xdna", "int8→int32", (80, 88, 96), 146.0, (4160, 4224, 4224), 4.42),
    *_pair("xdna", "bf16→bf16", (96, 56, 96), 99.8, (4224, 4032, 4224), 3.12),
    *_pair("xdna2", "int8→int8", (144, 72, 144), 343.0, (4032, 4320, 4608), 37.35),
    *_pair("xdna2", "int8→int16", (128, 72, 112), 307.2, (4096, 4320, 4480), 30.77),
    *_pair("xdna2", "int8→int32", (96, 64, 96), 256.0, (4224, 4224, 4608), 24.74),
    Point("xdna2", Tile(48, 280, 48), Gemm(48, 280, 48), macs_per_cycle=384.0),
)


def predict(device: Device, point: Point) -> float:
    """→ the model's word for what `point` measured, in its unit"""
    if point.macs_per_cycle is not None:
        tile = point.tile
        return tile.m * tile.k * tile.n / kernel_cycles(device, tile, point.gemm.out, point.gemm.dtype)
    # the paper repeats a GEMM and takes the mean: dispatches are queued
    return cost(device, point.gemm, point.tile, dispatch=device.queued).tops


def error(device: Device, point: Point) -> float:
    """→ predicted over measured, minus 1"""
    return predict(device, point) / (point.macs_per_cycle or point.tops or math.nan) - 1


def fit(points: Sequence[Point]) -> dict[str, Device]:
    """→ the built-in devices with the six parameters that are marked [F] there fitted to `points`

    sum_cycles (one for both), sum_byte_cycles (one each) and XDNA2's stretch by linear least squares of the kernels'
    relative errors; then read (one each) by least squares of the GEMMs', held near the paper's figure.
    """
    kernels = [point for point in points if point.macs_per_cycle is not None]
    system = np.array([_causes(point) for point in kernels])
    found = np.linalg.lstsq(system[:, :-1], system[:, -1], rcond=None)[0].tolist()
    shared, byte_cycles, stretch = found[0], {"xdna": found[1], "xdna2": found[2]}, {"xdna": 0.0, "xdna2": found[3]}
    fitted = {}
    for name, device in BUILT_IN.items():
        device = replace(device, sum_cycles=shared, sum_byte_cycles=byte_cycles[name], stretch=stretch[name])
        fitted[name] = _with_bandwidth(device, [p for p in points if p.device == name and p.tops is not None])
    return fitted


def _causes(point: Point) -> list[float]:
    """→ one row of the system: what each parameter is multiplied by, and what they should add up to, as shares of
    the measured cycles"""
    tile, second = point.tile, point.device == "xdna2"
    macs, sums = tile.m * tile.k * tile.n, tile.m * tile.n
    cycles = macs / (point.macs_per_cycle or math.nan)
    peak = macs / BUILT_IN[point.device].types[point.gemm.dtype].macs
    carried = sums * BYTES[point.gemm.out]
    row = [sums, carried * (not second), carried * second, peak * second, cycles - peak]
    return [part / cycles for part in row]


def _with_bandwidth(device: Device, gemms: Sequence[Point]) -> Device:
    """→ `device` with the bandwidth, within 30% of the paper's, that fits `gemms` best"""
    about = PAPER[device.name]

    def misfit(one: Device) -> float:
        errors = sum(error(one, point) ** 2 for point in gemms)
        return errors + (TRUST * math.log(one.read / about)) ** 2

    tried = [replace(device, read=about * share / 1000, write=about * share / 1000) for share in range(700, 1301)]
    return min(tried, key=misfit)


def without(point: Point) -> float:
    """→ the error at `point` of a model that was fitted without it and without whatever else its design measured"""
    design = (point.device, point.tile, point.gemm.dtype, point.gemm.out)
    others = [other for other in POINTS if (other.device, other.tile, other.gemm.dtype, other.gemm.out) != design]
    return error(fit(others)[point.device], point)


if __name__ == "__main__":
    for name, made in fit(POINTS).items():
        sums = f"sums {made.sum_cycles:.4f} + {made.sum_byte_cycles:.4f} a byte"
        print(f"{name}: read {made.read / 1e9:.2f} GB/s, {sums}, stretch {made.stretch:.4f}")
    for one in POINTS:
        by_model, off = predict(BUILT_IN[one.device], one), error(BUILT_IN[one.device], one)
        beside = f"{one.macs_per_cycle or one.tops:7} {by_model:8.2f} {100 * off:+6.1f}%"
        print(f"{one!s:62} {beside}; left out {100 * without(one):+6.1f}%")
