"""Which tiles a GEMM is cut into: all that fit the memories and the DMA engines, and of those the fastest."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import lcm

from targets.aie.cycles import Cost, Gemm, Tile, cost
from targets.aie.devices import BYTES, Device
from targets.base import UsageError

WRAP = 1023  # 32-bit words or rows that one dimension of a DMA descriptor counts (10 bits)
WORD = 4  # bytes: what DMA moves is whole 32-bit words


def l1_bytes(tile: Tile, out: str, dtype: str = "int8") -> int:
    """→ bytes of L1: two tiles of A and two of B, one coming while the other is used, and one of C (equation 5)"""
    return 2 * tile.k * (tile.m + tile.n) * BYTES[dtype] + tile.m * tile.n * BYTES[out]


def l2_bytes(device: Device, tile: Tile, chunk: int, out: str, dtype: str = "int8") -> int:
    """→ bytes of one memory tile: two chunks of A (m×chunk) and two of B (chunk×n), and what its column has of C"""
    return 2 * chunk * (tile.m + tile.n) * BYTES[dtype] + device.rows * tile.m * tile.n * BYTES[out]


def refusal(device: Device, tile: Tile, out: str, dtype: str = "int8") -> str | None:
    """→ None, or why `tile` is not possible on `device`, in words"""
    block = device.types[dtype].native
    steps = (lcm(device.step, block[0]), block[1], lcm(device.step, block[2]))
    for name, size, step in zip("mkn", (tile.m, tile.k, tile.n), steps, strict=True):
        if size <= 0 or size % step:
            return f"{name} must be a multiple of {step}; got {size}"
    if tile.k < device.least_k:
        return f"k must be at least {device.least_k}; got {tile.k}"
    if tile.k * BYTES[dtype] % WORD or tile.n * BYTES[out] % WORD:
        return f"rows must be whole words of {WORD} bytes"
    if max(tile.m, tile.n, tile.k * BYTES[dtype] // WORD) > WRAP:
        return f"a side is longer than a DMA descriptor counts, {WRAP}"
    if l1_bytes(tile, out, dtype) > device.l1_used:
        return f"L1 holds {device.l1_used} bytes; the tiles take {l1_bytes(tile, out, dtype)}"
    if l2_bytes(device, tile, tile.k, out, dtype) > device.l2:
        return f"L2 holds {device.l2} bytes; the tiles take {l2_bytes(device, tile, tile.k, out, dtype)}"
    return None


def chunk_of(device: Device, tile: Tile, k: int, out: str, dtype: str = "int8") -> int:
    """→ how deep a piece of A and B lies in L2: the largest multiple of tile.k that divides the padded K, fits L2 and
    that one DMA dimension counts; longer pieces are longer bursts of DRAM"""
    passes = -(-k // tile.k)
    fits = [
        count
        for count in range(1, passes + 1)
        if passes % count == 0
        and count * tile.k * BYTES[dtype] // WORD <= WRAP
        and l2_bytes(device, tile, count * tile.k, out, dtype) <= device.l2
    ]
    return max(fits, default=1) * tile.k


@lru_cache(maxsize=64)
def possible(device: Device, out: str, dtype: str = "int8") -> tuple[Tile, ...]:
    """→ every tile that `device` takes. Raises UsageError where there is none."""
    step, k_step, most = device.step, device.types[dtype].native[1], device.l1_used
    found = []
    for m in range(step, most, step):
        for n in range(step, most, step):
            if l1_bytes(Tile(m, k_step, n), out, dtype) > most:
                break
            for k in range(-(-device.least_k // k_step) * k_step, most, k_step):
                tile = Tile(m, k, n)
                if l1_bytes(tile, out, dtype) > most:
                    break
                if refusal(device, tile, out, dtype) is None:
                    found.append(tile)
    if not found:
        raise UsageError(f"device {device.name}: no tile fits L1 of {most} bytes; give it more")
    return tuple(found)


def best(device: Device, gemm: Gemm, dispatch: float | None = None) -> Cost:
    """→ `gemm` with the tile that takes the least time; of equals the one that moves the least"""
    return common(device, (gemm,), dispatch)[0]


def common(device: Device, gemms: Sequence[Gemm], dispatch: float | None = None) -> tuple[Cost, ...]:
    """→ all `gemms`, of one type, with the one tile that takes the least time for them together, so that the array
    keeps its design: another tile is another design, and loading one takes milliseconds"""
    tile = _fastest(device, tuple(sorted(Counter(gemms).items(), key=str)))
    made = {gemm: cost(device, gemm, tile, dispatch) for gemm in set(gemms)}
    return tuple(made[gemm] for gemm in gemms)


@lru_cache(maxsize=1024)
def _fastest(device: Device, counted: tuple[tuple[Gemm, int], ...]) -> Tile:
    """counted: each GEMM and how often → the tile with the least time, whatever a dispatch takes"""
    outs = {(gemm.out, gemm.dtype) for gemm, _ in counted}
    if len(outs) != 1:
        raise UsageError(f"one design multiplies one type; got {len(outs)}; plan them apart")

    def total(tile: Tile) -> tuple[float, int]:
        costs = [(count, cost(device, gemm, tile)) for gemm, count in counted]
        return sum(count * one.array for count, one in costs), sum(count * one.read for count, one in costs)

    return min(possible(device, *outs.pop()), key=total)
