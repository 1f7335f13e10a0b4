"""PerSize sees a parameter that changes, in whatever way and mode, and gives no view of one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.checks import assert_equal_bits
from tests.toolkit.keeping import Counting, assert_right, some_weight, table

aten = torch.ops.aten


@pytest.fixture
def weight() -> Tensor:
    return some_weight()


def halve(weight: Tensor) -> None:
    weight.mul_(0.5)


def halve_data(weight: Tensor) -> None:
    """PyTorch counts no version of this one"""
    weight.data.mul_(0.5)


def halve_as_numpy(weight: Tensor) -> None:
    weight.numpy()[:] *= 0.5


def negate_zero(weight: Tensor) -> None:
    weight[0] = -weight[0]


def replace(weight: Tensor) -> None:
    weight.data = weight * 0.5


def to_bfloat16(weight: Tensor) -> None:
    weight.data = weight.to(torch.bfloat16)


@pytest.mark.parametrize("change", [halve, halve_data, halve_as_numpy, negate_zero, replace, to_bfloat16])
def test_a_changed_parameter_is_seen(change: Callable[[Tensor], None], weight: Tensor) -> None:
    weight[0] = 0
    module = Counting()
    assert_right(module, 5, weight)
    change(weight)
    assert_right(module, 5, weight)
    assert_right(module, 5, weight)
    assert module.computed == [5, 5] and len(module.kept) == len({one.key for one in module.kept})


def test_nan_is_itself(weight: Tensor) -> None:
    weight[0] = torch.nan
    module = Counting()
    for _ in range(2):
        assert_right(module, 5, weight)
    assert module.computed == [5]


def test_no_result_is_a_view_of_a_parameter(weight: Tensor) -> None:
    """The memory that a parameter had may be written to when it is no longer the parameter's."""
    module, before = Counting(), weight.clone()
    assert_right(module, 5, before)
    before.zero_()
    assert_right(module, 5, weight)


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_any_grad_mode_after_any_other(first: Callable[[], object], weight: Tensor) -> None:
    module, x = Counting(), torch.ones(5, 5, 3, requires_grad=True)
    with first():
        inside = module([5], [weight])[0]
    (x * module([5], [weight])[0]).sum().backward()  # saves it for x's gradient
    assert_equal_bits(x.grad, table(5, weight)[0])
    with torch.inference_mode():
        assert_right(module, 5, weight)
    assert module.computed == [5] and not inside.is_inference()


def test_parameters_of_inference_mode(weight: Tensor) -> None:
    with torch.inference_mode():
        inside = weight.clone()
        module = Counting()
        assert_right(module, 5, inside)
    x = torch.ones(5, 3, requires_grad=True)
    (x * module([5], [inside])[1]).sum().backward()
    assert_equal_bits(x.grad, weight[:5])


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_gradients_reach_a_parameter(first: Callable[[], object], weight: Tensor) -> None:
    module, trained = Counting(), nn.Parameter(weight)
    with first():
        assert_right(module, 5, trained)
    assert not any(held.requires_grad for held in module.kept[0].results)
    module([5], [trained])[1].sum().backward()
    assert_equal_bits(trained.grad[:5], torch.ones(5, 3))
    assert not trained.grad[5:].any()
