"""Layers in one operator: the bits of attention and feed-forward in turn, by every kernel and thread count."""

import pytest
import torch
from torch import Tensor

from operators import attention, feed_forward, kernels, layers
from operators.feed_forward import pack_layer
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_refuses
from tests.operators.layer_samples import INNER, PLAIN, RMS, SMOOTHED, layer_of
from tests.operators.samples import ops

N, WIDE = 32, 70
LENGTHS = {"one": [40], "mixed": [5, 0, 61, 7], "many": [64, 64, 64, 64], "none": [0], "a token": [1]}
Levels = tuple[bool, float, int, int]


def starts_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def arguments(
    lengths: list[int],
    levels: Levels,
    ends: tuple[bool, bool],
    way: str = PLAIN,
    causal: bool = False,
    masked: bool = True,
) -> tuple:
    """→ layers_int8's of three layers of two heads, with attention wider than the rest in the second"""
    g = torch.Generator().manual_seed(sum(lengths))
    starts, symmetric, quantize, then = starts_of(lengths), levels[0], *ends
    rows = int(starts[-1])
    sizes = [(N, 48), (48, N), (N, 10)]  # K, and what the last linear makes three of
    packed = [
        pack_layer(layer_of((k, N, WIDE, 3 * next_k), levels, number < 2 or quantize, number < 2 or then, way, number))
        for number, (k, next_k) in enumerate(sizes)
    ]
    keep = torch.rand(rows, generator=g) < 0.8 if rows % 2 else None
    qkv, residual = torch.randn(rows, 3 * N, generator=g), torch.randn(rows, N, generator=g)
    fixed = [[level] * 3 for level in levels[1:3]]
    last = quantize and not then, 30 if then else 0
    return qkv, residual, starts, keep, 2, 0.25, symmetric, *fixed, levels[3], False, causal, packed, *last


def in_turn(args: tuple, attend=ops.attention_int8, forward=ops.feed_forward_int8) -> tuple[Tensor, ...]:
    """The operators that layers_int8 is made of, one after the other."""
    qkv, residual, starts, keep, heads, scale, symmetric, scales, zeros, rotation, precise, causal, packed, *last = args
    how = [(heads, scale, symmetric, *level, rotation, precise, causal) for level in zip(scales, zeros, strict=True)]
    return layers.in_turn(qkv, residual, (starts, keep), how, packed, tuple(last), attend, forward)


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("way", [PLAIN, SMOOTHED, INNER, RMS])
@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)], ids=["y", "rows", "linear"])
@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_equals_its_operators_one_after_the_other(lengths, how, ends, way, causal, threads, any_kernel) -> None:
    args = arguments(LENGTHS[lengths], ACTIVATIONS[how].levels(), ends, way, causal)
    before = [value.clone() for value in args[:2]]
    for isa in kernels.runnable():
        kernels.use(isa)
        for count in (1, 2, 3):
            threads(count)
            for one, other in zip(ops.layers_int8(*args), in_turn(args), strict=True):
                assert_equal_bits(one, other)
    for value, was in zip(args, before, strict=False):
        assert_equal_bits(value, was)  # what is worked in is not what was given


@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)], ids=["y", "rows", "linear"])
def test_the_reference_is_made_of_references(ends) -> None:
    args = arguments(LENGTHS["mixed"], (True, 0.0, 128, 0), ends, INNER)
    expected = in_turn(args, attention.attention_int8, feed_forward.feed_forward_int8)
    for one, other in zip(layers.layers_int8(*args), expected, strict=True):
        assert_equal_bits(one, other)


def test_one_layer_is_a_layer() -> None:
    args = arguments(LENGTHS["mixed"], (False, 0.0, 128, 0), (False, False))
    args = *args[:7], [0.0], [128], *args[9:12], [args[12][2]], *args[13:]
    for one, other in zip(ops.layers_int8(*args), in_turn(args), strict=True):
        assert_equal_bits(one, other)


GOOD = arguments(LENGTHS["mixed"], (False, 0.0, 128, 0), (True, True))
PACKED = GOOD[12]
END = pack_layer(layer_of((N, N, WIDE, 0), (False, 0.0, 128, 0), False, False))
BAD: dict[str, dict[int, object]] = {
    "no layers": {7: [], 8: [], 12: []},
    "two levels for three layers": {7: [0.0, 0.0]},
    "two layers for three levels": {12: PACKED[1:]},
    "a layer in the middle that ends": {12: [END, *PACKED[1:]]},
    "layers of another width": {12: [PACKED[1], *PACKED[1:]]},
    "a damaged layer": {12: [*PACKED[:2], PACKED[2][:-100]]},
    "qkv in bfloat16": {0: GOOD[0].bfloat16()},
    "qkv of 4 dimensions": {0: GOOD[0][None, None]},
    "five heads": {4: 5},
    "a scale that is none": {5: float("nan")},
    "a zero point of 256": {8: [128, 128, 256]},
    "a rotation by 256": {9: 256},
    "a short residual": {1: GOOD[1][1:]},
    "starts beyond the end": {2: GOOD[2] + 1},
    "a short mask": {3: GOOD[3][1:]},
    "a result that the last layer lacks": {13: True, 14: 0},
}


@pytest.mark.parametrize("through", [ops.layers_int8, layers.layers_int8], ids=["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case, through) -> None:
    args = list(GOOD)
    for place, value in BAD[case].items():
        args[place] = value
    assert_refuses(through, "layers_int8", *args)
