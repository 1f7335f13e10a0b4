"""A layer's linears in one operator: the bits of its operators in turn, by every kernel and thread count."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from operators import build, feed_forward, fused, kernels, reference
from operators.feed_forward import pack_layer
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_refuses
from tests.operators.layer_samples import INNER, NONE, PLAIN, RMS, SMOOTHED, Levels, layer_of
from tests.operators.samples import linear, ops

# M, K, N, L, P: few rows and none, one block, blocks for each thread, tails everywhere, one column
SHAPES = [(1, 64, 64, 128, 64), (7, 33, 70, 130, 96), (0, 8, 8, 8, 8), (80, 64, 96, 65, 130), (301, 16, 40, 100, 24),
          (3, 70, 1, 70, 1)]  # fmt: skip


def arguments(shape: tuple[int, ...], levels: Levels, quantize: bool, then: bool, way: str = PLAIN) -> tuple:
    """→ rows, residual, what pack_layer takes, quantize, then"""
    m, k, n, wide, last = shape
    g = torch.Generator().manual_seed(m)
    rows = reference.quantize_per_token(torch.randn(m, k, generator=g), *levels)
    layer = layer_of((k, n, wide, last), levels, quantize, then, way, m)
    return rows, torch.randn(m, n, generator=g), layer, quantize and not then, last if then else 0


def in_turn(args: tuple) -> list[Tensor]:
    """The compiled operators, one after the other."""
    return list(feed_forward.compose(*args, ops.linear_int8_add_norm, ops.linear_int8_gelu, ops.linear_int8_rows))


def at_once(operator: Callable, args: tuple) -> tuple[Tensor, ...]:
    rows, residual, layer, *last = args
    return operator(*rows, residual, pack_layer(layer), *last)


@pytest.mark.parametrize("way", [PLAIN, SMOOTHED, INNER, RMS])
@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)], ids=["y", "rows", "linear"])
@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_its_operators_one_after_the_other(shape, how, ends, way, threads, any_kernel) -> None:
    args = arguments(shape, ACTIVATIONS[how].levels(), *ends, way)
    expected = in_turn(args)
    for isa in kernels.runnable():
        kernels.use(isa)
        for count in (1, 2, 3):
            threads(count)
            for one, other in zip(at_once(ops.feed_forward_int8, args), expected, strict=True):
                assert_equal_bits(one, other)


def test_blocks_of_a_real_layer(threads) -> None:
    args = arguments((150, 384, 384, 1536, 1152), (False, 0.0, 128, 0), True, True)
    expected = in_turn(args)
    for count in (1, 2, 3):
        threads(count)
        for one, other in zip(at_once(ops.feed_forward_int8, args), expected, strict=True):
            assert_equal_bits(one, other)


@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)], ids=["y", "rows", "linear"])
def test_the_reference_is_made_of_references(ends) -> None:
    args = arguments(SHAPES[1], (True, 0.0, 128, 0), *ends, INNER)
    rows, residual, layer, *_ = args
    y, *rows = fused.linear_int8_add_norm(*rows, *layer[:4], residual, *layer[4:7], True, *layer[7:15])
    wide = fused.linear_int8_gelu(*rows, *layer[15:24])
    y, *rows = fused.linear_int8_add_norm(*wide, *layer[24:28], y, *layer[28:40])
    if ends[1]:
        expected = [y, *(part[:0] for part in rows), fused.linear_int8_rows(*rows, *layer[40:])]
    else:
        expected = [y, *rows, torch.empty(0, 0)]
    for one, other in zip(at_once(feed_forward.feed_forward_int8, args), expected, strict=True):
        assert_equal_bits(one, other)


@pytest.mark.parametrize("shape", SHAPES[:2] + SHAPES[-1:], ids=str)
def test_a_packed_layer_holds_what_was_packed(shape) -> None:
    _, _, layer, *_ = arguments(shape, (False, 0.25, 7, 32), True, True, SMOOTHED)
    for one, other in zip(feed_forward.unpack_layer("it", pack_layer(layer)), layer, strict=True):
        if isinstance(other, Tensor):
            assert_equal_bits(one, other)
        else:
            assert one is other or (type(one), one) == (type(other), other)


def test_the_kernel_reads_as_many_words_as_are_written() -> None:
    source = (build.SOURCES / "feed_forward.cpp").read_text()
    assert f"const int64_t WORDS = {feed_forward.WORDS};" in source
    assert f"const int64_t MAGIC = {feed_forward.MAGIC:#x};" in source


def test_a_row_that_is_not_finite_stays_so_and_alone() -> None:
    rows, *others = arguments((30, 64, 96, 128, 64), (True, 0.0, 128, 0), True, True)
    rows[1][7] = torch.nan
    y, *_, z = at_once(ops.feed_forward_int8, (rows, *others))
    for values in (y, z):
        assert values.isnan().any(1).nonzero().flatten().tolist() == [7]


BOTH = (ops.feed_forward_int8, feed_forward.feed_forward_int8)
EITHER_WAY = pytest.mark.parametrize("through", BOTH, ids=["kernels", "reference"])
LEVELS = (False, 0.0, 128, 0)
ROWS, RESIDUAL, LAYER, *_ = arguments((5, 33, 70, 70, 7), LEVELS, True, True)
NO_LINEAR = LAYER[:-4]
PACKED = pack_layer(LAYER)


def changed(index: int, *values: object) -> Tensor:
    """LAYER with others from an index on, packed"""
    return pack_layer((*LAYER[:index], *values, *LAYER[index + len(values) :]))


def word(index: int, more: int) -> Tensor:
    """PACKED with something added to one of its words"""
    layer = PACKED.clone()
    layer[8 * index : 8 * index + 8].view(torch.int64).add_(more)
    return layer


BAD: dict[str, tuple[Tensor, bool, int]] = {
    "other bytes": (PACKED[8:], False, 7),
    "a part": (PACKED[:100], False, 7),
    "the end is missing": (PACKED[:-100], False, 7),
    "not where tensors begin": (torch.cat([PACKED[:1], PACKED])[1:], False, 7),
    "every other byte": (torch.stack([PACKED, PACKED], 1)[:, 0], False, 7),
    "a tensor that begins a byte later": (word(3, 1), False, 7),
    "of floats": (PACKED[:4000].view(torch.float32), False, 7),
    "the first linear of another K": (changed(0, *linear(70, 60).args()), False, 7),
    "no first linear": (changed(0, *NONE), False, 7),
    "the third linear of another N": (changed(24, *linear(69, 70).args()), False, 7),
    "a short bias": (changed(3, torch.rand(69)), False, 7),
    "a short gamma": (changed(4, torch.rand(69)), False, 7),
    "no beta": (changed(5, None), False, 7),
    "a zero point of 256": (changed(9, 256), False, 7),
    "a rotation by 3": (changed(10, 3), False, 7),
    "smoothed by a scale alone": (changed(11, torch.rand(70)), False, 7),
    "a part of the last linear": (pack_layer((*NO_LINEAR, *linear(7, 70).args()[:2], None, None)), False, 7),
    "a bias of no linear": (pack_layer((*NO_LINEAR, None, None, None, torch.rand(7))), True, 0),
    "no rows for the last linear": (changed(31, False), False, 7),
    "a sum that nothing is quantized of": (changed(31, False, *LAYER[32:38], True, False, *NONE), False, 0),
    "rows that another linear reads": (PACKED, True, 7),
    "a linear of other outputs": (PACKED, False, 8),
    "a linear that is not said": (PACKED, False, 0),
    "a linear that is not there": (pack_layer((*NO_LINEAR, *NONE)), True, 7),
}


@EITHER_WAY
@pytest.mark.parametrize("case", BAD)
def test_refuses(case, through) -> None:
    assert_refuses(through, "feed_forward_int8", *ROWS, RESIDUAL, *BAD[case])


@pytest.mark.parametrize(
    "residual", [RESIDUAL[:-1], RESIDUAL[:, 1:], RESIDUAL.double()], ids=["rows", "columns", "double"]
)
@EITHER_WAY
def test_refuses_a_residual(residual, through) -> None:
    assert_refuses(through, "feed_forward_int8", *ROWS, residual, PACKED, False, 7)
