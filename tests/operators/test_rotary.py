"""Heads turned by position, the kernel against the reference bit by bit, and the reference against models' own code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.cohere.modeling_cohere import apply_rotary_pos_emb as interleaved_one
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as halves_one

from operators import rotary as reference
from tests.checks import assert_equal_bits, assert_refuses, assert_sqnr
from tests.operators.forcing import assert_same_bits
from tests.operators.samples import ops


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check(x: Tensor, cos: Tensor, sin: Tensor, *how: Any) -> Tensor:
    have = ops.rotary(x, cos, sin, *how)
    assert_equal_bits(have, reference.rotary(x, cos, sin, *how))
    return have


@pytest.mark.parametrize(("apply", "interleaved"), [(halves_one, False), (interleaved_one, True)])
def test_the_reference_is_what_models_do(apply: Any, interleaved: bool) -> None:
    x, cos, sin = random(2, 9, 24), random(2, 9, 8, seed=1), random(2, 9, 8, seed=2)
    heads = x.view(2, 9, 3, 8).transpose(1, 2)
    want, _ = apply(heads, heads, cos, sin)
    assert_equal_bits(reference.rotary(x, cos, sin, 8, 3, interleaved), want.transpose(1, 2).reshape(2, 9, 24))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("size", "part"), [(2, 2), (7, 6), (8, 4), (33, 32), (64, 64), (64, 0), (100, 98)])
def test_any_head_size(isa: str, size: int, part: int, interleaved: bool) -> None:
    x, cos, sin = random(37, 3 * size), random(37, part, seed=1), random(37, part, seed=2)
    for turned in (0, 1, 2, 3):
        have = check(x, cos, sin, size, turned, interleaved)
        assert_equal_bits(have[:, turned * size :], x[:, turned * size :])


@pytest.mark.parametrize("batch", [1, 3])
def test_angles_for_each_sequence_or_for_all(batch: int) -> None:
    x, cos, sin = random(3, 21, 64), random(batch, 21, 16, seed=1), random(batch, 21, 16, seed=2)
    have = check(x, cos, sin, 16, 3)
    rows = (one.expand(3, -1, -1).reshape(63, 16) for one in (cos, sin))
    assert_equal_bits(have.view(63, 64), ops.rotary(x.view(63, 64), *rows, 16, 3))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 63])
def test_angles_by_places(rows: int, interleaved: bool) -> None:
    """Places count on from sequence to sequence."""
    places = torch.randint(0, 90, (rows,), generator=torch.Generator().manual_seed(0))
    x, cos, sin = random(rows, 96), random(30, 16, seed=1), random(30, 16, seed=2)
    have = check(x, cos, sin, 16, 3, interleaved, places)
    assert_equal_bits(have, ops.rotary(x, cos[places % 30], sin[places % 30], 16, 3, interleaved))


@pytest.mark.parametrize("through", [ops.rotary, reference.rotary], ids=["kernel", "reference"])
@pytest.mark.parametrize(
    ("shape", "places"),
    [
        ((1, 7, 32), torch.arange(7)),
        ((7, 32), torch.arange(6)),
        ((7, 32), torch.arange(7).int()),
        ((7, 32), torch.arange(7) - 1),
        ((7, 32), torch.arange(7)[None]),
    ],
    ids=["of a batch", "too few", "in int32", "below 0", "of 2 dimensions"],
)
def test_refuses_places_that_do_not_fit(through: Any, shape: tuple[int, ...], places: Tensor) -> None:
    assert_refuses(through, "rotary", random(*shape), random(9, 8), random(9, 8), 8, 2, False, places)


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 400])
def test_any_number_of_rows_on_any_number_of_threads(rows: int, threads: Callable[[int], None]) -> None:
    x, cos, sin = random(rows, 128), random(rows, 32, seed=1), random(rows, 32, seed=2)
    threads(2)
    have = check(x, cos, sin, 32, 3)
    threads(1)
    assert_equal_bits(ops.rotary(x, cos, sin, 32, 3), have)


@pytest.mark.parametrize("angles", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits_are_computed_in_float32_and_rounded_once(dtype: torch.dtype, angles: torch.dtype) -> None:
    x, cos, sin = random(2, 9, 24).to(dtype), random(1, 9, 6, seed=1).to(angles), random(1, 9, 6, seed=2).to(angles)
    for interleaved in (False, True):
        want = ops.rotary(x.float(), cos.float(), sin.float(), 8, 2, interleaved).to(dtype)
        assert_equal_bits(check(x, cos, sin, 8, 2, interleaved), want)
    assert_equal_bits(check(x.float(), cos, sin, 8, 2), ops.rotary(x.float(), cos.float(), sin.float(), 8, 2))


def test_views_and_numbers_that_are_none(isa: str) -> None:
    x, cos, sin = random(64, 5).t(), random(5, 32, seed=1)[:, ::2], random(16, 5, seed=2).t()
    check(x, cos, sin, 16, 2)
    x = x.contiguous()
    x[0, :4] = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0])
    check(x, cos, sin, 16, 2)


def test_normalized_heads_are_what_models_do() -> None:
    x, cos, sin, weight = random(2, 9, 24), random(2, 9, 8, seed=1), random(2, 9, 8, seed=2), random(8, seed=3)
    norm = LlamaRMSNorm(8, 1e-6)
    norm.weight.data = weight
    heads = norm(x.view(2, 9, 3, 8)).transpose(1, 2)
    want, _ = halves_one(heads, heads, cos, sin)
    have = reference.rotary(x, cos, sin, 8, 3, False, None, weight.repeat(3), 1e-6)
    assert_sqnr(have, want.transpose(1, 2).reshape(2, 9, 24), 130)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("size", "part"), [(1, 0), (7, 6), (16, 16), (33, 32), (64, 64), (100, 98), (128, 128)])
def test_normalized_heads_of_any_size(isa: str, size: int, part: int, interleaved: bool) -> None:
    x, cos, sin = random(37, 3 * size), random(37, part, seed=1), random(37, part, seed=2)
    for turned in (0, 1, 3):
        more = turned, interleaved, None, random(turned * size, seed=3), 1e-5
        have = ops.rotary(x, cos, sin, size, *more)
        assert_sqnr(have, reference.rotary(x, cos, sin, size, *more), 130)
        assert_equal_bits(have[:, turned * size :], x[:, turned * size :])


def test_normalized_heads_by_places_and_on_any_number_of_threads(threads: Callable[[int], None]) -> None:
    places = torch.randint(0, 90, (63,), generator=torch.Generator().manual_seed(0))
    x, weight, normed = random(63, 96) * 100, random(48, seed=3), (random(30, 16, seed=1), random(30, 16, seed=2))
    threads(2)
    have = ops.rotary(x, *normed, 16, 3, False, places, weight, 1e-6)
    threads(1)
    rows = (one[places % 30] for one in normed)
    assert_equal_bits(ops.rotary(x, *rows, 16, 3, False, None, weight, 1e-6), have)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("size", "part"), [(7, 6), (33, 32), (64, 64), (128, 96)])
def test_every_kernel_gives_the_same_bits(
    size: int, part: int, interleaved: bool, threads: Callable[[int], None]
) -> None:
    x, cos, sin = random(37, 4 * size), random(37, part, seed=1), random(37, part, seed=2)
    more = size, 3, interleaved, None, random(3 * size, seed=3), 1e-5
    assert_same_bits(lambda: [ops.rotary(x, cos, sin, *more)], threads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_normalized_heads_of_16_bits_are_rounded_once(dtype: torch.dtype) -> None:
    x, cos, sin, weight = random(9, 24).to(dtype), random(9, 6, seed=1), random(9, 6, seed=2), random(16, seed=3)
    have = ops.rotary(x, cos, sin, 8, 2, False, None, weight, 1e-6)
    assert_equal_bits(have, ops.rotary(x.float(), cos, sin, 8, 2, False, None, weight, 1e-6).to(dtype))


def test_a_head_of_zeros_and_one_of_numbers_that_are_none() -> None:
    x, angles, weight = torch.zeros(2, 24), torch.ones(2, 8), torch.ones(24)
    x[1, 3] = torch.nan
    have = ops.rotary(x, angles, angles, 8, 3, False, None, weight, 1e-6)
    assert torch.equal(have[0], torch.zeros(24)) and have[1, :8].isnan().all() and not have[1, 8:].any()


X, COS = torch.zeros(2, 3, 8), torch.zeros(1, 3, 4)
REFUSED = {
    "x of 64 bits": ((X.double(), COS, COS, 4, 2), "x must be"),
    "x of one dimension": ((X[0, 0], COS, COS, 4, 2), "x must be"),
    "a size that does not divide": ((X, COS, COS, 3, 2), "size must divide the 8 columns of x"),
    "no size": ((X, COS, COS, 0, 2), "size must divide"),
    "more heads than there are": ((X, COS, COS, 4, 3), "turned must lie in 0..2"),
    "fewer than none": ((X, COS, COS, 4, -1), "turned must lie in 0..2"),
    "cos of 64 bits": ((X, COS.double(), COS, 4, 2), "cos must be"),
    "sin of another type": ((X, COS, COS.half(), 4, 2), "sin must be"),
    "sin unlike cos": ((X, COS, COS.expand(2, -1, -1), 4, 2), "sin must be"),
    "cos for other rows": ((X, COS[:, :2], COS[:, :2], 4, 2), "cos must be"),
    "cos for other sequences": ((X, COS.expand(3, -1, -1), COS.expand(3, -1, -1), 4, 2), "cos must be"),
    "cos for rows": ((X, COS[0], COS[0], 4, 2), "cos must be"),
    "an odd number": ((X, COS[..., :3], COS[..., :3], 4, 2), "cos must be .* r even and at most 4"),
    "a weight for other heads": ((X, COS, COS, 4, 2, False, None, torch.ones(4)), "weight must"),
    "a weight for each head": ((X, COS, COS, 4, 2, False, None, torch.ones(2, 4)), "weight must"),
    "a weight of 16 bits": ((X, COS, COS, 4, 2, False, None, torch.ones(8).half()), "weight must"),
    "more than a head has": ((X, COS, COS, 2, 2), "cos must be .* r even and at most 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    args, words = REFUSED[case]
    for operator in (ops.rotary, reference.rotary):
        assert_refuses(operator, f"rotary(?=: {words})", *args)
