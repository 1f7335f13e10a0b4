"""Query, key and value of one linear: however a model tells them apart, they become three parts of its columns."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from targets._bf16 import Bf16Linear
from targets._fp8 import Fp8Activation, Fp8Linear
from targets._linear import Activation, QuantizedLinear
from targets._weight import WeightLinear
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.fusing import mask_of
from tests.toolkit.small_graphs import X, count, graph_of
from tests.toolkit.test_cache import KINDS, SMALL, TURNED_DB, by_cache, whole
from toolkit import Recipe, report_of, transform
from toolkit.cache import with_cache
from toolkit.fuse.stacked import picked
from toolkit.fuse.thirds import split_thirds
from toolkit.pipeline import PASSES, clean, run

aten = torch.ops.aten
Parts = Callable[[Tensor], Any]  # y [B, S, 24] → three parts of it
BLOOM: dict[str, Any] = {"vocab_size": tiny.VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "gpt-neox, mixed head by head": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)),
    "bloom, the same": lambda: BloomForCausalLM(BloomConfig(**BLOOM, initializer_range=0.3)),
    "phi-3, slices": lambda: Phi3ForCausalLM(Phi3Config(**SMALL, num_key_value_heads=2, pad_token_id=0)),
}
KINDS_DB = {"cpu fp": 100.0, "customcpu fp": 100.0, "customcpu bf16": TURNED_DB, "customcpu weight": 40.0}


def model_of(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[name]().eval()


@pytest.mark.parametrize("padding", ["right", "left", "one token"])
@pytest.mark.parametrize("precision, db", [("fp", 90.0), ("int", 25.0)])
@pytest.mark.parametrize("name", MODELS)
def test_whole_texts(name: str, precision: str, db: float, padding: str) -> None:
    mask, model = mask_of(padding), model_of(name)
    ids = torch.randint(3, tiny.VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    graph = transform(model, Recipe(precision), "customcpu")
    fused = report_of(graph).fused
    assert fused["thirds"] == 2
    assert fused["attention"] + fused["heads"] == (0 if "bloom" in name else 2)  # which adds to its scores
    with torch.no_grad():
        have, want = (call(input_ids=ids, attention_mask=mask).logits[mask.bool()] for call in (graph, model))
    assert_sqnr(have, want, db)


@pytest.mark.parametrize("kind", KINDS_DB)
@pytest.mark.parametrize("name", [name for name in MODELS if "bloom" not in name])
def test_token_by_token(name: str, kind: str) -> None:
    (target, recipe), model = KINDS[kind], model_of(name)
    plain, cached = (transform(one, recipe, target) for one in (model, with_cache(model)))
    if target == "customcpu":
        assert not report_of(cached).missed
        assert [report_of(cached).fused[one] for one in ("thirds", "rotary", "cached")] == [2, 4, 2]
    for have, want in zip(by_cache(cached), whole(plain), strict=True):
        assert_sqnr(have, want, KINDS_DB[kind])


class Thirds(nn.Module):
    """Three parts of what a linear makes of x [B, S, 6], and what they are read for"""

    def __init__(self, parts: Parts, linear: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear: Any = nn.Linear(6, 24) if linear else (lambda x: torch.cat([x, x * 2, x * 3, x * 4], -1))
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = self.parts(self.linear(x))
        return one + two * three


def split_of(parts: Parts, linear: bool = True) -> tuple[fx.GraphModule, int]:
    gm = graph_of(Thirds(parts, linear))
    run(gm, PASSES)
    want = gm(X)
    done = split_thirds(gm)
    clean(gm)
    assert_equal_bits(gm(X), want)
    return gm, done


def heads(y: Tensor, *sizes: int) -> Tensor:
    return y.view(*y.shape[:2], *sizes)


IN_ORDER: dict[str, Parts] = {
    "along a dimension of their own": lambda y: heads(y, 3, 2, 4).unbind(2),
    "that is counted from the end": lambda y: heads(y, 3, -1, 2).unbind(-3),
    "heads before the sequence": lambda y: heads(y, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0),
    "one head": lambda y: y.reshape(y.shape[0], -1, 1, 24).transpose(1, 2).chunk(3, -1),
    "slices": lambda y: (y[..., :8], y[..., 8:16], y[..., 16:]),
    "a chunk": lambda y: y.chunk(3, -1),
}
MIXED: dict[str, Parts] = {
    "head by head": lambda y: heads(y, 2, 12).transpose(1, 2).chunk(3, -1),
    "head by head, by number": lambda y: tuple(heads(y, 2, 3, 4)[:, :, :, number] for number in range(3)),
    "of a view that is gone": lambda y: heads(y, 2, 12).transpose(1, 2).reshape(-1, 2, y.shape[1], 3, 4).unbind(3),
    "number by number": lambda y: heads(y, 2, 4, 3).unbind(-1),
}
STAYS: dict[str, Parts] = {
    "numbers before the sequence": lambda y: heads(y, 3, 2, 4).permute(2, 0, 3, 4, 1).unbind(0),
    "tokens and numbers exchanged": lambda y: y.transpose(1, 2).reshape(y.shape[0], 24, -1).chunk(3, 1),
    "the same part twice": lambda y: (y[..., :8], y[..., 8:16], y[..., 8:16]),
    "columns that are left out": lambda y: (y[..., :6], y[..., 8:14], y[..., 16:22]),
    "columns that another reads too": lambda y: (y[..., :8], y[..., 8:16], y[..., 16:] * y.sum()),
    "two parts": lambda y: (*heads(y, 2, 12).unbind(2), 1.0),
    "one token less": lambda y: (y[:, 1:, :8], y[:, 1:, 8:16], y[:, 1:, 16:]),
    "a part of no columns": lambda y: (y[..., :12], y[..., 12:], y[..., 24:].sum(-1, keepdim=True)),
    "tokens": lambda y: (y[:, 0, :8], y[:, 3, 8:16], y[:, 4, 16:]),
    "a split already": lambda y: y.split(8, -1),
}


@pytest.mark.parametrize("linear", [True, False], ids=["of a linear", "of something else"])
@pytest.mark.parametrize("name", IN_ORDER)
def test_parts_that_stand_side_by_side(name: str, linear: bool) -> None:
    gm, done = split_of(IN_ORDER[name], linear)
    assert done == 1 and count(gm, aten.split_with_sizes.default) == 1


@pytest.mark.parametrize("name", MIXED)
def test_mixed_parts_of_a_linear_alone(name: str) -> None:
    assert [split_of(MIXED[name], linear)[1] for linear in (True, False)] == [1, 0]


@pytest.mark.parametrize("name", STAYS)
def test_what_only_looks_like_it_stays(name: str) -> None:
    assert split_of(STAYS[name])[1] == 0


class Twice(Thirds):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.linear(x * 2).view(*x.shape[:2], 2, 3, 4).sum(3).transpose(1, 2)


def test_mixed_parts_of_a_linear_that_is_called_twice_stay() -> None:
    gm = graph_of(Twice(MIXED["head by head"]))
    run(gm, PASSES)
    assert split_thirds(gm) == 0


LINEARS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "fp": lambda linear: linear,
    "bf16": Bf16Linear,
    "int": lambda linear: QuantizedLinear.from_linear(linear, Activation()),
    "static": lambda linear: QuantizedLinear.from_linear(linear, Activation(False, 0.1, 99)),
    "weight": WeightLinear.from_linear,
    "fp8": lambda linear: Fp8Linear.from_linear(linear, Fp8Activation()),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", LINEARS)
def test_a_row_of_weights_stays_what_it_is_wherever_it_stands(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    linear, outputs = LINEARS[kind](nn.Linear(6, 24, bias)), torch.randperm(24)
    with torch.no_grad():
        assert_equal_bits(picked(linear, outputs)(X), linear(X)[..., outputs])
