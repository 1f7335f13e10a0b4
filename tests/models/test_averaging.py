"""The mean of the last weights: which states are in it, that it is their mean, and where it ends up."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.finetune import Step, train
from models.finetune.averaging import EVERY, WeightMean, takes
from tests.checks import assert_equal_bits, assert_sqnr
from tests.models.runs import AVERAGED, EXAMPLES, SETTINGS, averaging_every, run
from tests.models.samples import tiny_bert, tokenizer


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize(
    ("total", "share", "taken"),
    [
        (400, 0.0, []),
        (400, 0.25, [350, 400]),  # not 300: the share is the last 100 steps, 301 to 400
        (400, 0.26, [300, 350, 400]),
        (430, 0.5, [230, 280, 330, 380, 430]),  # counted from the end, so that the last is always in
        (430, 1.0, [30, 80, 130, 180, 230, 280, 330, 380, 430]),
        (430, 0.001, [430]),
        (49, 1.0, [49]),
        (500, 0.9, [100, 150, 200, 250, 300, 350, 400, 450, 500]),  # not 50: in floats, 500 * (1 - 0.9) is less
    ],
)
def test_which_states_are_taken(total: int, share: float, taken: list[int]) -> None:
    assert EVERY == 50
    assert [step for step in range(1, total + 1) if takes(step, total, share)] == taken


def states(count: int, dtype: torch.dtype) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)).to(dtype) for _ in range(count)]


def mean_of(found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The plain mean, in float64."""
    return {name: torch.stack([each[name].double() for each in found]).mean(0) for name in found[0]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_it_is_the_mean(count: int, dtype: torch.dtype) -> None:
    mean, models = WeightMean(), states(count, dtype)
    for model in models:
        mean.add(model)
    expected = mean_of([weights(model) for model in models])
    assert mean.count == count and mean.mean.keys() == expected.keys()
    for name, value in mean.mean.items():
        assert value.dtype == torch.float32 and not value.requires_grad
        assert_sqnr(value, expected[name], 120)
    target = states(1, dtype)[0]
    mean.put_into(target)
    for name, value in weights(target).items():
        assert_equal_bits(value, mean.mean[name].to(dtype))


def test_it_holds_its_own_copy() -> None:
    mean, model = WeightMean(), states(1, torch.float32)[0]
    mean.add(model)
    before = weights(model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    mean.put_into(model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    mean.put_into(model)
    for name, value in weights(model).items():
        assert_equal_bits(value, before[name])


def test_a_mean_of_nothing_changes_nothing() -> None:
    model = states(1, torch.float32)[0]
    before = weights(model)
    WeightMean().put_into(model)
    for name, value in weights(model).items():
        assert_equal_bits(value, before[name])


def test_a_run_ends_with_the_mean_and_its_last_evaluation_sees_it(tmp_path: Path) -> None:
    model = tiny_bert()
    seen: dict[int, dict[str, Tensor]] = {}
    epochs: list[tuple[bool, dict[str, Tensor]]] = []

    def on_step(step: Step) -> None:
        seen[step.number] = weights(model)

    def on_epoch(epoch: int) -> None:
        epochs.append((model.training, weights(model)))

    with averaging_every(2):
        train(model, tokenizer(), EXAMPLES, AVERAGED, tmp_path, on_step=on_step, on_epoch=on_epoch)
    assert len(seen) == 10
    expected, result = mean_of([seen[6], seen[8], seen[10]]), weights(model)
    for name, value in result.items():
        assert_sqnr(value, expected[name], 120)
        assert_equal_bits(epochs[0][1][name], seen[5][name])  # amid the run the weights are as they are
        assert_equal_bits(epochs[1][1][name], value)
    assert [training for training, _ in epochs] == [False, False] and not model.training
    assert max((result[name] - seen[10][name]).abs().max() for name in result) > 1e-3


def test_the_mean_takes_no_part_in_the_steps(tmp_path: Path) -> None:
    losses: list[list[float]] = [[], []]
    for found, settings in zip(losses, (SETTINGS, replace(AVERAGED, average=1.0)), strict=True):
        run(tmp_path / str(settings.average), settings, lambda step, found=found: found.append(step.loss))
    assert losses[0] == losses[1]
