"""attention_disentangled: the arguments that are refused, sizes that are free, and no rows."""

import pytest
import torch
from torch import Tensor

from operators import attention_disentangled as reference
from tests.checks import assert_equal_bits, assert_refuses
from tests.operators.samples import ops
from tests.operators.test_attention import packed, random
from tests.operators.test_attention_disentangled import index_of, sides

NAME = "attention_disentangled"
QKV, STARTS, PLACE = torch.zeros(9, 24), torch.tensor([0, 4, 9], dtype=torch.int32), torch.arange(9)
P, INDEX = torch.zeros(2, 5, 4), index_of("distances", 6, 5)
BAD: dict[str, tuple] = {
    "no side": (QKV, None, None, None, None, None, None),
    "vectors alone": (QKV, None, None, P, None, P, INDEX),
    "an index alone": (QKV, None, None, P, INDEX, None, INDEX),
    "vectors in bfloat16": (QKV, None, None, P.bfloat16(), INDEX, None, None),
    "vectors of 2 dimensions": (QKV, None, None, P[0], INDEX, None, None),
    "vectors of three heads": (QKV, None, None, None, None, torch.zeros(3, 5, 4), INDEX),
    "vectors of other columns": (QKV, None, None, P[..., 1:], INDEX, None, None),
    "no vectors": (QKV, None, None, P[:, :0], INDEX, None, None),
    "an index in int64": (QKV, None, None, P, INDEX.long(), None, None),
    "an index of 1 dimension": (QKV, None, None, P, INDEX[0], None, None),
    "an index that is not square": (QKV, None, None, P, INDEX[:5], None, None),
    "an index of no place": (QKV, None, None, P, INDEX[:0, :0], None, None),
    "indices of two lengths": (QKV, None, None, P, INDEX, P, INDEX[:5, :5].contiguous()),
    "an entry below 0": (QKV, None, None, P, INDEX - 3, None, None),
    "an entry that is too high": (QKV, None, None, P, INDEX, P[:, :4], INDEX),
    "an index shorter than a sequence": (QKV, None, None, P, INDEX[:4, :4].contiguous(), None, None),
    "too few places": (QKV, None, PLACE[1:], P, INDEX, None, None),
    "places in int32": (QKV, None, PLACE.int(), P, INDEX, None, None),
    "a place below 0": (QKV, None, PLACE - 1, P, INDEX, None, None),
    "keep too short": (QKV, PLACE[1:] > 0, None, P, INDEX, None, None),
    "a double": (QKV.double(), None, None, P, INDEX, None, None),
}


@pytest.mark.parametrize("through", ["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, through: str) -> None:
    qkv, *rest = BAD[case]
    assert_refuses(getattr(ops if through == "kernels" else reference, NAME), NAME, qkv, STARTS, *rest, 2, 0.5)


def test_exports_with_free_sizes(kernel: str) -> None:
    """The batch's length, which is the index's, is known at the call."""

    class Layer(torch.nn.Module):
        def forward(self, qkv: Tensor, starts: Tensor, index: Tensor) -> Tensor:
            return ops.attention_disentangled(qkv, starts, None, None, P, index, P, index, 2, 0.5)

    rows, length = torch.export.Dim("rows"), torch.export.Dim("length")
    sizes = {"qkv": {0: rows}, "starts": None, "index": {0: length, 1: length}}
    layer = torch.export.export(Layer(), (QKV, STARTS, INDEX), dynamic_shapes=sizes).module()
    args = random(12, 2, 4), packed(5, 7), index_of("distances", 7, 5)
    assert_equal_bits(layer(*args), Layer()(*args), kernel)


@pytest.mark.parametrize("starts", [[0], [0, 0]], ids=str)
@pytest.mark.parametrize("operator", [ops.attention_disentangled, reference.attention_disentangled])
def test_no_rows(kernel: str, operator, starts: list[int]) -> None:
    at = torch.tensor(starts, dtype=torch.int32)
    assert operator(random(0, 2, 32), at, None, None, *sides(2, 32, 5), 2, 0.2).shape == (0, 64)
