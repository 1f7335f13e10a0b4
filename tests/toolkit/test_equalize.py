"""Clipping, compensating and correcting the bias: what they go by, what they bring, and what the report says of it."""

import pytest
import torch
from torch import nn

from operators import quantize_weight
from targets._linear import Activation, QuantizedLinear
from targets.base import UsageError
from tests import tiny
from tests.checks import assert_equal_bits, assert_sqnr
from tests.toolkit.equalizing import INT, OFF, captured, planted
from toolkit import Recipe, Rule, report_of, transform
from toolkit.equalize.clip import clip
from toolkit.equalize.correct import correction
from toolkit.equalize.observe import SAMPLE, Moments, observe
from toolkit.equalize.rounded import rounded
from toolkit.equalize.rounding import compensate
from toolkit.quantize import chosen


def moments_of(x, square=True):
    seen = Moments()
    seen.add(x, square, torch.Generator().manual_seed(0))
    return seen


def correlated(rows, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, k // 4, generator=generator) @ torch.randn(k // 4, k, generator=generator)
    return mixed + 0.1 * torch.randn(rows, k, generator=generator) + 0.5


def weights(n, k, seed=1):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def test_moments_are_those_of_the_real_tokens():
    model, batches = planted("bert")
    graph = captured(model)
    name = "bert.encoder.layer.1.attention.self.query"
    read = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args: read.append(args[0]))
    for batch in batches:
        model(**batch)
    handle.remove()
    x = torch.cat([x[batch["attention_mask"].bool()] for x, batch in zip(read, batches, strict=True)])
    seen = observe(graph, batches, chosen(graph, INT), square=True)
    assert seen[name] is seen[name.replace("query", "value")]
    assert seen[name].count == len(x)
    for have, want in (
        (seen[name].low, x.amin(0)),
        (seen[name].high, x.amax(0)),
        (seen[name].mean(), x.mean(0)),
        (seen[name].square(), x.square().mean(0)),
        (seen[name].hessian(), x.t() @ x / len(x)),
    ):
        assert_sqnr(have, want, 90)


def test_memory_does_not_grow_with_the_batches():
    seen, generator = Moments(), torch.Generator().manual_seed(0)
    for number in range(SAMPLE):
        seen.add(torch.full((5, 3), float(number)), False, generator)
    assert seen.rows.shape == (SAMPLE, 3)
    assert seen.outer is None
    # an even sample of 0 ... SAMPLE - 1 has half of the largest as its mean, within five standard errors
    assert abs(float(seen.rows.mean()) - SAMPLE / 2) < 5 * SAMPLE / 12**0.5 / SAMPLE**0.5


def test_no_batch_is_refused():
    graph = captured(tiny.build("bert"))
    with pytest.raises(UsageError, match="no batch"):
        observe(graph, [], chosen(graph, INT))
    padding = tiny.inputs(tiny.build("bert"), 2, 5)
    padding["attention_mask"].zero_()
    with pytest.raises(UsageError, match="at least one batch with real tokens"):
        observe(graph, [padding], chosen(graph, INT))


def test_data_that_can_be_read_only_once_is_said_to_be():
    model, batches = planted("bert")
    with pytest.raises(UsageError, match="iterable more than once; got an iterator"):
        transform(model, INT, data=iter(batches))


def test_a_weight_of_two_terms_is_not_counted_as_rounded_anew():
    model, batches = planted("bert")
    recipe = Recipe(precision="int", smooth=False, clip=True, rules=(Rule("*.query", weight_bits=16),))
    assert report_of(transform(model, recipe, data=batches)).equalized == {
        "clip": 10, "compensate": 10, "correct_bias": 12,
    }  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True], ids=["all alike", "by the size of the inputs"])
def test_clipping_never_makes_the_error_larger(weighted):
    weight = weights(17, 67)
    importance = weights(1, 67, seed=2)[0].square() if weighted else None

    def error(q, scale):
        square = (weight - q.float() * scale[:, None]).square()
        return (square if importance is None else square * importance).sum(1)

    q, scale = clip(weight, importance)
    plain = error(*quantize_weight(weight))
    assert q.dtype == torch.int8 and int(q.min()) >= -127
    assert (error(q, scale) <= plain).all()
    assert error(q, scale).sum() < 0.99 * plain.sum()


def test_errors_that_make_up_for_each_other():
    x, weight = correlated(500, 150), weights(20, 150)
    nearest, scale = quantize_weight(weight)
    q = compensate(weight, scale, moments_of(x).hessian())

    def error(q):
        return (x @ (weight - q.float() * scale[:, None]).t()).square().sum()

    assert q.dtype == torch.int8 and int(q.min()) >= -127
    assert error(q) < 0.3 * error(nearest)


def test_inputs_that_do_not_go_together_round_to_the_nearest():
    weight = weights(9, 70)
    nearest, scale = quantize_weight(weight)
    assert torch.equal(compensate(weight, scale, torch.eye(70)), nearest)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_the_corrected_bias_leaves_no_error_on_average(symmetric):
    recipe = Recipe(precision="int", symmetric=symmetric)
    x, weight = correlated(300, 64), weights(20, 64)
    q, scale = quantize_weight(weight)
    correct = correction(weight, q.float() * scale[:, None], moments_of(x), recipe)
    y = rounded(x, recipe) @ (q.float() * scale[:, None]).t()
    off = (x @ weight.t() - y).mean(0)
    assert off.abs().max() > 1e-3
    assert (off - correct).abs().max() < 1e-5 * (x @ weight.t()).abs().max()


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_rounded_is_what_the_integers_are(symmetric):
    x = correlated(50, 31)
    q, scale, zero = torch.ops.opswap.quantize_per_token(x, symmetric, 0.0, 128)
    expected = (q.float() - zero[:, None]) * scale[:, None]
    # a value halfway between two levels may go either way: one more rounding of x · (1 / scale)
    assert_sqnr(rounded(x, Recipe(precision="int", symmetric=symmetric)), expected, 60)


def test_without_data_only_what_needs_none_is_done_and_the_report_says_so():
    model, batches = planted("bert")
    all_on = Recipe(precision="int", smooth=True, clip=True, compensate=True, correct_bias=True)
    missing = "no calibration data"
    without, having = (report_of(transform(model, all_on, data=data)).equalized for data in (None, batches))
    assert without == {"smooth": missing, "clip": 12, "compensate": missing, "correct_bias": missing}
    assert having == {"smooth": 8, "clip": 12, "compensate": 12, "correct_bias": 12}
    assert report_of(transform(model, Recipe(precision="int", **OFF))).equalized == {}


def test_everything_off_is_plain_rounding():
    model = tiny.build("bert")
    name = "bert.encoder.layer.0.intermediate.dense"
    graph = captured(model)
    linear = graph.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    plain = QuantizedLinear.from_linear(linear, Activation())
    swapped = transform(model, Recipe(precision="int", **OFF), "cpu").get_submodule(name)
    assert_equal_bits(swapped.scale, plain.scale)
