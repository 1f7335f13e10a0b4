"""A table by distance that PerSize keeps, and who counts and notes what is computed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from tests.checks import assert_equal_bits
from toolkit.fuse.kept import PerSize

aten = torch.ops.aten


def table(length: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    """→ a look-up in weight [V, 3] by distance, and a view of the weight"""
    places = aten.arange.default(length)
    far = aten.abs.default(aten.sub.Tensor(aten.unsqueeze.default(places, 0), aten.unsqueeze.default(places, 1)))
    return aten.embedding.default(weight, far), aten.slice.Tensor(weight, 0, 0, length)


class Noting(TorchFunctionMode):
    """called: the operators that were called in it"""

    def __init__(self) -> None:
        super().__init__()
        self.called = set[object]()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.add(function)
        return function(*args, **(kwargs or {}))


class Counting(PerSize):
    """computed: the sizes that the operators were called with, in order"""

    def __init__(self, function: Callable[..., object] = table) -> None:
        super().__init__(fx.symbolic_trace(function))
        self.computed: list[int] = []
        self.made.register_forward_pre_hook(lambda _, args: self.computed.append(args[0]))


def some_weight() -> Tensor:
    """→ float32 [64, 3]"""
    return torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def assert_right(module: PerSize, length: int, weight: Tensor) -> None:
    for have, want in zip(module([length], [weight]), table(length, weight), strict=True):
        assert_equal_bits(have, want)
