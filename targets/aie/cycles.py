"""What a GEMM costs on an NPU: bytes, cycles, seconds. Equations as in arXiv 2512.13282, unless a comment says more.

C [M, N] = A [M, K] · B [K, N]. A compute tile keeps an m×n tile of C while the tiles of A (m×k) and B (k×n) pass by;
the tiles of a row of the array share A, those of a column share B, so one round of the array makes rows·m by
columns·n of C.
"""

from dataclasses import dataclass

from targets.aie.devices import BYTES, Device


@dataclass(frozen=True)
class Gemm:
    """M×K×N, of `dtype` in and `out` out: names of devices.BYTES"""

    m: int
    k: int
    n: int
    out: str = "int32"
    dtype: str = "int8"

    @property
    def macs(self) -> int:
        return self.m * self.k * self.n


@dataclass(frozen=True)
class Tile:
    """What a compute tile works on at once: m×k of A, k×n of B, m×n of C"""

    m: int
    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.m}×{self.k}×{self.n}"


@dataclass(frozen=True)
class Cost:
    """Of one GEMM. padded: M, K, N in whole tiles; read, written: bytes of DRAM; seconds: compute and memory, which
    overlap; edges, in which they cannot; dispatch."""

    gemm: Gemm
    tile: Tile
    padded: tuple[int, int, int]
    read: int
    written: int
    compute: float
    memory: float
    edges: float
    dispatch: float

    @property
    def array(self) -> float:
        """Seconds on the array, dispatch left out"""
        return max(self.compute, self.memory) + self.edges

    @property
    def seconds(self) -> float:
        return self.array + self.dispatch

    @property
    def tops(self) -> float:
        """10¹² operations a second, two a multiply-add, padding not counted"""
        return 2 * self.gemm.macs / self.seconds / 1e12

    @property
    def waste(self) -> float:
        """The share of the multiply-adds that are padding, 0 to 1"""
        m, k, n = self.padded
        return 1 - self.gemm.macs / (m * k * n)

    @property
    def bound(self) -> str:
        """What it waits for most: dispatch; compute or memory, on the array; or first one, then the other"""
        array = "compute" if self.compute >= self.memory else "memory"
        return f"dispatch, {array}" if self.dispatch > self.array else array


def kernel_cycles(device: Device, tile: Tile, out: str, dtype: str = "int8") -> float:
    """→ cycles in which one compute tile multiplies a tile of A by one of B and adds it to its tile of C

    The paper has m·k·n / (efficiency · peak), with an efficiency measured for each tile. Here the efficiency comes of
    three causes: multiplying at the peak or a little under it; starting and ending the pipelined loop, for each
    element of C; and carrying the sums from L1 to the registers and back, for each of their bytes.
    """
    multiply = tile.m * tile.k * tile.n / device.types[dtype].macs * (1 + device.stretch)
    return multiply + tile.m * tile.n * (device.sum_cycles + device.sum_byte_cycles * BYTES[out])


def feed_cycles(device: Device, tile: Tile, dtype: str = "int8") -> float:
    """→ cycles in which the next tiles of A and B come into L1, side by side, while the kernel works on these"""
    return tile.k * max(tile.m, tile.n) * BYTES[dtype] / device.stream


def drain_cycles(device: Device, tile: Tile, out: str) -> float:
    """→ cycles in which a finished tile of C leaves L1, where there is room for one only, so that the kernel waits"""
    return tile.m * tile.n * BYTES[out] / device.stream


def padded_sizes(device: Device, gemm: Gemm, tile: Tile) -> tuple[int, int, int]:
    """→ M, K, N in whole tiles of the whole array"""
    steps = (tile.m * device.rows, tile.k, tile.n * device.columns)
    sizes = [-(-size // step) * step for size, step in zip((gemm.m, gemm.k, gemm.n), steps, strict=True)]
    return sizes[0], sizes[1], sizes[2]


def cost(device: Device, gemm: Gemm, tile: Tile, dispatch: float | None = None) -> Cost:
    """→ what `gemm` costs with `tile`; dispatch in seconds, the device's where it is None

    Reads and writes go over channels of their own, so memory time is that of the longer. (As one stream, the three
    points of XDNA2 would want 53, 54 and 60 GB/s; their reads alone want 49, 47 and 48.)
    """
    m, k, n = padded_sizes(device, gemm, tile)
    size, out = BYTES[gemm.dtype], BYTES[gemm.out]
    rounds, passes = m * n // (tile.m * tile.n * device.tiles), k // tile.k
    a_pass = max(kernel_cycles(device, tile, gemm.out, gemm.dtype), feed_cycles(device, tile, gemm.dtype))
    cycles = passes * a_pass + drain_cycles(device, tile, gemm.out)
    # A is read once for each round along N, B once for each along M
    read = m * k * size * (n // (tile.n * device.columns)) + k * n * size * (m // (tile.m * device.rows))
    written = m * n * out
    # before the first multiplication its tiles of A and B must be there, after the last one the last of C must go
    first = (device.rows * tile.m + device.columns * tile.n) * tile.k * size
    last = device.tiles * tile.m * tile.n * out
    return Cost(
        gemm=gemm,
        tile=tile,
        padded=(m, k, n),
        read=read,
        written=written,
        compute=rounds * cycles / device.clock,
        memory=max(read / device.read, written / device.write),
        edges=first / device.read + last / device.write,
        dispatch=device.dispatch if dispatch is None else dispatch,
    )
