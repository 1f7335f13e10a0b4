"""RMSNorm that is written out in small steps becomes one operator; what only looks like it stays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.small_graphs import X, assert_fused_out_of_place_alone, count, graph_of
from toolkit.fuse.norm_steps import raise_norm
from toolkit.pipeline import CLEANING, clean, run

RMS_NORM = torch.ops.aten.rms_norm.default
Steps = Callable[[Tensor, Tensor], Tensor]  # x [B, S, 6], weight [6] → [B, S, 6]


class Written(nn.Module):
    """RMSNorm by `steps`, of what has another reader too, as the residual has."""

    def __init__(self, steps: Steps, dtype: torch.dtype) -> None:
        super().__init__()
        self.steps, self.dtype = steps, dtype
        self.weight = nn.Parameter(torch.linspace(0.5, 2, 6).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype) + 1
        return x + self.steps(x, self.weight)


def root(x: Tensor, eps: float = 1e-3) -> Tensor:
    return torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)


def as_llama(x: Tensor, w: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-3)).to(x.dtype)


def as_gemma(x: Tensor, w: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-3) * (1.0 + w.float())).type_as(x)


def as_t5(x: Tensor, w: Tensor) -> Tensor:
    return w * (x * root(x)).to(w.dtype)


def changed_in_between(x: Tensor, w: Tensor) -> Tensor:
    x = x.clone()
    inverse = root(x)
    x.mul_(2)
    return x * inverse * w


def changed_later(x: Tensor, w: Tensor) -> Tensor:
    x = x.clone()
    normed = x * root(x)
    x.mul_(2)
    return normed * w


TAKEN: dict[str, Steps] = {
    "Llama": as_llama,
    "Gemma": as_gemma,
    "T5": as_t5,
    "the weight last": lambda x, w: x * root(x) * w,
    "the weight first": lambda x, w: (x * w) * root(x),
    "weight and root first": lambda x, w: (root(x) * w) * x,
    "without a weight": lambda x, w: x * root(x),
    "divided": lambda x, w: w * (x / torch.sqrt((x * x).mean(2, keepdim=True) + 1e-3)),
    "a square": lambda x, w: w * (x * torch.rsqrt(1e-3 + torch.square(x).mean(-1, True))),
    "a weight of parameters": lambda x, w: x * root(x) * (w * 2 + w),
    "more factors after it": lambda x, w: x * root(x) * w * 3 * x,
}
LEFT: dict[str, Steps] = {
    "over tokens": lambda x, w: w * (x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3)),
    "cubes": lambda x, w: w * (x * torch.rsqrt(x.pow(3).mean(-1, keepdim=True) + 9)),
    "the mean of something else": lambda x, w: w * (x * root(x + 1)),
    "nothing added": lambda x, w: w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))),
    "a tensor added": lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + w) * w,
    "twice of it added": lambda x, w: w * (x * torch.rsqrt(torch.add(x.pow(2).mean(-1, True), 1e-3, alpha=2))),
    "the root is read twice": lambda x, w: w * (x * (inverse := root(x))) + inverse,
    "the root alone": lambda x, w: root(x) * w,
    "multiplied by the root": lambda x, w: x * torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3) * w,
    "the root divided": lambda x, w: torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3) / x,
    "by itself again": lambda x, w: (x * x) * root(x),
    "rounded in between": lambda x, w: x * root(x.half()) * w,
    "in double": lambda x, w: (x * torch.rsqrt(x.double().pow(2).mean(-1, keepdim=True) + 1e-3)).float() * w,
}


@pytest.mark.parametrize("steps", TAKEN.values(), ids=TAKEN)
def test_one_operator(steps: Steps) -> None:
    gm = graph_of(Written(steps, torch.float32))
    before = gm(X)
    assert raise_norm(gm) == 1
    clean(gm)
    assert count(gm, RMS_NORM) == 1
    assert not any(count(gm, one) for one in (torch.ops.aten.rsqrt.default, torch.ops.aten.mean.dim))
    (node,) = gm.graph.find_nodes(op="call_function", target=RMS_NORM)
    assert node.args[1] == [6] and [str(size) for size in node.meta["val"].shape[2:]] == ["6"]
    assert_sqnr(gm(X), before, 120)


@pytest.mark.parametrize("kind", ["Llama", "T5"])
def test_in_bfloat16_it_is_rounded_once(kind: str) -> None:
    module = Written(TAKEN[kind], torch.bfloat16)
    gm = graph_of(module)
    run(gm, CLEANING)
    assert raise_norm(gm) == 1
    clean(gm)
    with torch.no_grad():
        x = (X.bfloat16() + 1).float()
        normed = torch.nn.functional.rms_norm(x, (6,), module.weight.float(), 1e-3)
        assert_equal_bits(gm(X), (x + normed.bfloat16().float()).bfloat16().float())


def test_a_weight_in_float32_of_bfloat16_stays() -> None:
    gm = graph_of(Written(as_gemma, torch.bfloat16))
    run(gm, CLEANING)
    assert raise_norm(gm) == 0


@pytest.mark.parametrize("steps", LEFT.values(), ids=LEFT)
def test_others_stay(steps: Steps) -> None:
    gm = graph_of(Written(steps, torch.float32))
    assert raise_norm(gm) == 0


@pytest.mark.parametrize("steps, times", [(changed_in_between, 0), (changed_later, 1)])
def test_x_changes(steps: Steps, times: int) -> None:
    assert_fused_out_of_place_alone(Written(steps, torch.float32), "norm_steps", times)


ROUNDED: dict[str, Steps] = {
    "the norm": lambda x, w: w * (x * root(x)).bfloat16(),
    "the norm, and back": lambda x, w: w * (x * root(x)).half().float(),
    "the root": lambda x, w: x * root(x).bfloat16() * w,
}


@pytest.mark.parametrize("steps", ROUNDED.values(), ids=ROUNDED)
def test_what_a_model_rounds_is_rounded(steps: Steps) -> None:
    """To fewer bits than what is normalized has"""
    gm = graph_of(Written(steps, torch.float32))
    run(gm, CLEANING)
    before = gm(X)
    raise_norm(gm)
    clean(gm)
    assert_sqnr(gm(X), before, 100)


def test_a_weight_that_is_computed_is_made_once() -> None:
    module = Written(as_gemma, torch.float32)
    gm = graph_of(module)
    raise_norm(gm)
    clean(gm)
    (node,) = gm.graph.find_nodes(op="call_function", target=RMS_NORM)
    assert_equal_bits(getattr(gm, str(node.args[2].target)), 1 + module.weight.detach())
    assert not count(gm, torch.ops.aten.mul.Tensor)
