"""What the array computes: int8 [M, K] · int8 [N, K]ᵀ → int32, int16 or int8, in two forms that give the same bits.

`walk` goes the way of the array, tile by tile, slowly. `fast` computes the same integers at once: the zeros that fill
up tiles add nothing, and int32 sums of K ≤ 66,311 products are exact in any order.

Both keep sums at 32 bits until the last pass over K and narrow them once. (A kernel that has room in L1 for narrow
sums only must narrow after every pass; that loses bits, and is not what is emulated here.)
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.validate import MAX_K, require
from targets.aie.cycles import Gemm, Tile, padded_sizes
from targets.aie.devices import Device
from targets.aie.mapper import chunk_of, refusal
from targets.aie.srs import srs


@dataclass(frozen=True)
class Output:
    """How sums leave the array, as srs takes it; int32 with shift 0 is the sums themselves"""

    out: str = "int32"
    shift: int = 0
    rounding: str = "conv_even"
    saturation: str = "saturate"

    @property
    def exact(self) -> bool:
        return self.out == "int32" and self.shift == 0 and self.saturation != "symmetric"

    def narrow(self, sums: Tensor) -> Tensor:
        """int32 → the dtype of `out`"""
        return sums if self.exact else srs(sums, self.shift, self.out, self.rounding, self.saturation)


def fast(q: Tensor, packed: Tensor, weight_sum: Tensor, output: Output = Output()) -> Tensor:
    """q int8 [M, K], packed weight of [N, K], weight_sum int32 [N] → [M, N] of output.out

    opswap::int8_matmul takes unsigned rows and a zero point: q + 128 with the zero point 128 are the same integers.
    Raises ValueError on a bad argument.
    """
    unsigned = q.view(torch.uint8).bitwise_xor(128)  # flipping the sign bit adds 128
    zero_point = torch.full((q.shape[0],), 128, dtype=torch.int32, device=q.device)
    return output.narrow(torch.ops.opswap.int8_matmul(unsigned, zero_point, packed, weight_sum))


def walk(q: Tensor, weight: Tensor, device: Device, tile: Tile, output: Output = Output()) -> Tensor:
    """q int8 [M, K], weight int8 [N, K] → [M, N] of output.out

    The host pads to whole tiles of the whole array. Each round gives every compute tile one tile of C, which stays
    with it while A and B stream past: chunks of K into L2, tiles of those into L1, native blocks of those into the
    registers. Raises ValueError on operands that do not fit each other, and a tile that the device has no room for.
    """
    (m, k), (n, depth) = q.shape, weight.shape
    int8 = q.dtype == weight.dtype == torch.int8
    require(int8, "walk: operands must be int8", f"{q.dtype} and {weight.dtype}", "quantize them")
    require(k == depth and 0 < k <= MAX_K, f"walk: operands must share K in 1..{MAX_K}", f"{k}, {depth}", "fix them")
    why = refusal(device, tile, output.out)
    require(why is None, f"walk: {device.name} must have room for the tile {tile}", why, "take one that it has")
    rows, depth, columns = padded_sizes(device, Gemm(m, k, n, output.out), tile)
    a, b = F.pad(q, (0, depth - k, 0, rows - m)), F.pad(weight, (0, depth - k, 0, columns - n)).t()
    c = torch.empty(rows, columns, dtype=output.narrow(torch.zeros(1, dtype=torch.int32)).dtype)
    chunk = chunk_of(device, tile, k, output.out)
    for top in range(0, rows, tile.m * device.rows):  # a round
        for left in range(0, columns, tile.n * device.columns):
            for i in range(top, top + tile.m * device.rows, tile.m):  # the compute tiles, all at once
                for j in range(left, left + tile.n * device.columns, tile.n):
                    sums = _stationary(a[i : i + tile.m], b[:, j : j + tile.n], device, tile, chunk)
                    c[i : i + tile.m, j : j + tile.n] = output.narrow(sums)
    return c[:m, :n]


def _stationary(a: Tensor, b: Tensor, device: Device, tile: Tile, chunk: int) -> Tensor:
    """a int8 [m, K], b int8 [K, n] → int32 [m, n]: one compute tile and all that streams past it"""
    sums = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32)
    for far in range(0, a.shape[1], chunk):  # in L2
        for near in range(far, far + chunk, tile.k):  # in L1
            _kernel(a[:, near : near + tile.k], b[near : near + tile.k], sums, device)
    return sums


def _kernel(a: Tensor, b: Tensor, sums: Tensor, device: Device) -> None:
    """sums += a · b in native blocks r×s×t, as DMA lays them out: A as [m/r, k/s, r, s], B as [k/s, n/t, s, t]"""
    r, s, t = device.types["int8"].native
    blocks_a = a.unflatten(0, (-1, r)).unflatten(2, (-1, s)).transpose(1, 2).to(torch.int32)
    blocks_b = b.unflatten(0, (-1, s)).unflatten(2, (-1, t)).transpose(1, 2).to(torch.int32)
    blocks_c = sums.unflatten(0, (-1, r)).unflatten(2, (-1, t)).transpose(1, 2)  # a view
    for step in range(blocks_a.shape[1]):
        blocks_c += blocks_a[:, None, step] @ blocks_b[None, step]
