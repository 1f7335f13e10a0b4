"""Cheap dropout: how often, how much, and that the elements know nothing of each other."""

import math

import pytest
import torch
from torch import Tensor, nn

from models.finetune.dropout import LEVELS, Dropout, dropout, replace_dropout
from tests.checks import assert_equal_bits

RATES = [1 / 128, 0.1, 0.25, 0.5, 0.9, 127 / 128]
DTYPES = [torch.float32, torch.bfloat16]
SIGMAS = 5  # the seed is fixed: these tests pass always or never; one draw in two million lies beyond
PREFIX = 7  # elements after the last whole group of eight


def drawn(p: float, size: int, seed: int = 0) -> Tensor:
    """[size] float32: 1 where an element was kept."""
    torch.manual_seed(seed)
    return (dropout(torch.ones(size), p) != 0).float()


def rounded(p: float) -> float:
    return round(p * LEVELS) / LEVELS


@pytest.mark.parametrize("p", RATES)
def test_the_share_of_zeros(p: float) -> None:
    size = (1 << 20) + PREFIX
    share = 1 - drawn(p, size).mean(dtype=torch.float64).item()
    # A threshold that is off by one would be off by 1/128, that is by 16 to 90 sigmas.
    assert abs(share - rounded(p)) < SIGMAS * math.sqrt(rounded(p) * (1 - rounded(p)) / size)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", RATES)
def test_what_is_kept_is_scaled_by_the_rounded_rate(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (1 + torch.rand(3, 41, 5)).to(dtype)
    y = dropout(x, p)
    kept = y != 0
    scale = torch.tensor(1 / (1 - rounded(p)), dtype=torch.float64).to(dtype)
    assert_equal_bits(y, torch.where(kept, x * scale, torch.zeros_like(x)))
    assert 0 < kept.sum() < kept.numel() or p in (RATES[0], RATES[-1])


@pytest.mark.parametrize("p", RATES)
def test_the_mean_is_kept(p: float) -> None:
    size = 1 << 20
    torch.manual_seed(1)
    mean = dropout(torch.full((size,), 3.0), p).mean(dtype=torch.float64).item() / 3
    assert abs(mean - 1) < SIGMAS * math.sqrt(rounded(p) / (1 - rounded(p)) / size)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_passes_the_same_mask(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(13, 11, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.3)
    y.backward(torch.full_like(y, 2.0))
    assert x.grad is not None
    assert_equal_bits(x.grad, 2 * y.detach())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000])
def test_every_element_is_seven_bits_of_the_generator(size: int) -> None:
    torch.manual_seed(5)
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_().tolist()
    expected = [(word >> 8 * lane) & 127 >= 32 for word in words for lane in range(8)][:size]
    assert drawn(0.25, size, seed=5).bool().tolist() == expected


def test_the_eight_lanes_of_a_word_are_alike_and_apart() -> None:
    words = 50_000
    lanes = drawn(0.5, 8 * words).view(words, 8).T
    assert (lanes.mean(1) - 0.5).abs().max() < SIGMAS * 0.5 / math.sqrt(words)
    apart = torch.corrcoef(lanes) - torch.eye(8)
    assert apart.abs().max() < SIGMAS / math.sqrt(words)


@pytest.mark.parametrize("away", [1, 2, 7, 8, 16, 384])
def test_neighbours_are_drawn_apart(away: int) -> None:
    kept = drawn(0.5, 400_000)
    correlation = torch.corrcoef(torch.stack([kept[:-away], kept[away:]]))[0, 1]
    assert correlation.abs() < SIGMAS / math.sqrt(len(kept) - away)


def test_the_seed_decides() -> None:
    assert torch.equal(drawn(0.5, 999), drawn(0.5, 999))
    assert not torch.equal(drawn(0.5, 999), drawn(0.5, 999, seed=1))
    torch.manual_seed(0)
    first, second = dropout(torch.ones(999), 0.5), dropout(torch.ones(999), 0.5)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 0.003], ids=["none", "rounded to none"])
def test_a_rate_of_nothing_changes_and_draws_nothing(p: float) -> None:
    x = torch.randn(5, 3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert dropout(x, p) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [1.0, 0.999], ids=["all", "rounded to all"])
def test_a_rate_of_all_leaves_nothing(p: float) -> None:
    x = torch.ones(5, 3, requires_grad=True)
    y = dropout(x, p)
    y.sum().backward()
    assert x.grad is not None
    assert not y.any() and not x.grad.any()


def test_the_module_drops_in_training_alone() -> None:
    module, x = Dropout(0.5), torch.ones(100)
    assert 0 < (module(x) == 0).sum() < 100
    assert module.eval()(x) is x


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_modules_are_replaced_at_every_depth(training: bool) -> None:
    model = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.4)), nn.Dropout2d(0.3))
    model.train(training)
    assert replace_dropout(model) == 2
    found = [module for module in model.modules() if isinstance(module, Dropout)]
    assert [module.p for module in found] == [0.2, 0.4]
    assert [module.training for module in found] == [training] * 2
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    assert replace_dropout(model) == 0
