"""Heads of 16 bits that are turned by position: rounded once, also where a model converts them for it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.small_graphs import X, count, graph_of
from tests.toolkit.test_rotary import half
from toolkit.fuse.rotary import ROTARY, raise_rotary
from toolkit.pipeline import PASSES, clean, run


def cleaned(module: nn.Module) -> fx.GraphModule:
    gm = graph_of(module)
    run(gm, PASSES)
    return gm


class In16Bits(nn.Module):
    """angles: of what type cos and sin are; convert: what becomes of heads of 16 bits before they are turned"""

    def __init__(self, angles: torch.dtype, convert: Callable[[Tensor], Tensor] = lambda heads: heads) -> None:
        super().__init__()
        self.angles, self.convert = angles, convert

    def forward(self, x: Tensor) -> Tensor:
        heads = torch.cat([x, x[..., :2]], -1).bfloat16().view(*x.shape[:2], 2, 4).transpose(1, 2)
        angle = torch.arange(x.shape[1])[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        cos, sin = (one[None, None].to(self.angles) for one in (angle.cos(), angle.sin()))
        return self.end(self.convert(heads) * cos + half(self.convert(heads)) * sin)

    def end(self, made: Tensor) -> Tensor:
        return made


class AndBack(In16Bits):
    def end(self, made: Tensor) -> Tensor:
        return made.bfloat16()


def test_16_bits_are_rounded_once() -> None:
    gm = cleaned(In16Bits(torch.bfloat16))
    before = gm(X)
    assert raise_rotary(gm) == 1
    clean(gm)
    assert count(gm, ROTARY) == 1
    assert_equal_bits(gm(X).bfloat16().float(), gm(X))
    assert_sqnr(gm(X), before, 45)


@pytest.mark.parametrize("angles", [torch.float32, torch.bfloat16], ids=str)
def test_16_bits_that_are_converted_and_back_stay_the_same(angles: torch.dtype) -> None:
    gm = cleaned(AndBack(angles, Tensor.float))
    before = gm(X)
    assert raise_rotary(gm) == 1
    clean(gm)
    assert count(gm, ROTARY) == 1
    assert_equal_bits(gm(X), before)


NOT_BACK: dict[str, nn.Module] = {
    "that become 32": In16Bits(torch.float32),
    "that are converted and stay so": In16Bits(torch.float32, Tensor.float),
    "that are turned in 64": AndBack(torch.bfloat16, Tensor.double),
    "that are turned in 16 others": AndBack(torch.bfloat16, Tensor.half),
}


@pytest.mark.parametrize("name", NOT_BACK)
def test_16_bits_stay(name: str) -> None:
    gm = cleaned(NOT_BACK[name])
    before = gm(X)
    assert raise_rotary(gm) == 0
    assert_equal_bits(gm(X), before)
