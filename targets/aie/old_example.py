"""AMD's old BERT-large example on XDNA, by the same model: where its 3.5 to 7.8 s a question went.

It had one kernel of 2048×2048, to which it padded every layer (1024×1024 too: 4 times the work), gave it the 384 rows
in 12 launches, each of which fetched all of the weights again, and summed up pieces of K on the host. How often the
array was entered, and what it moved, follows from that; what the host did in between (padding, copies, sums, the rest
of the model in eager PyTorch) does not, and is what is missing from its measured time.
"""

from dataclasses import dataclass

from targets.aie.cycles import Gemm
from targets.aie.devices import XDNA
from targets.aie.mapper import best

KERNEL = 2048  # K and N of its only kernel
LAUNCHES = 12  # of a linear
ROWS = 384  # of a question
LAYERS, HIDDEN, INNER = 24, 1024, 4096  # of BERT-large
LINEARS = [(HIDDEN, HIDDEN)] * 4 + [(HIDDEN, INNER), (INNER, HIDDEN)]  # K×N of a layer's: query, key and value apart
MEASURED = (3.5, 7.8)  # seconds a question, as it was reported


@dataclass(frozen=True)
class OldExample:
    """Launches; dispatch and array in seconds; waste: multiply-adds done over those needed"""

    launches: int
    dispatch: float
    array: float
    waste: float

    @property
    def seconds(self) -> float:
        return self.dispatch + self.array


def old_example() -> OldExample:
    """→ one question of 384 tokens through the linears of BERT-large, as that example had it"""
    kernels = LAYERS * sum(-(-k // KERNEL) * -(-n // KERNEL) for k, n in LINEARS)
    one = best(XDNA, Gemm(ROWS // LAUNCHES, KERNEL, KERNEL))
    launches = kernels * LAUNCHES
    needed = LAYERS * sum(k * n for k, n in LINEARS)
    return OldExample(launches, launches * XDNA.dispatch, launches * one.array, kernels * KERNEL**2 / needed)
