"""The training's attention against transformers' eager one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import eager_attention_forward

from models.finetune.dropout import ATTENTION, attention, dropout
from tests.checks import assert_equal_bits, assert_sqnr, sqnr
from tests.tiny import BUILDERS, build, inputs

BATCH, HEADS, LENGTH, SIZE = 3, 4, 37, 20
MASKED = torch.finfo(torch.float32).min  # as transformers' masks have it


def heads(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key and value that want a gradient."""
    torch.manual_seed(0)
    return [torch.randn(BATCH, HEADS, LENGTH, SIZE).to(dtype).requires_grad_() for _ in range(3)]


def padding(*lengths: int) -> Tensor:
    """[batch, 1, 1, LENGTH], added to the scores."""
    allowed = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    return torch.where(allowed, 0.0, MASKED)[:, None, None, :]


def results(forward: Callable, parts: list[Tensor], mask: Tensor | None, **options: object) -> dict[str, Tensor]:
    """Output, weights, and the gradients of query, key and value, in float32."""
    output, weights = forward(nn.Module(), *parts, mask, **options)
    torch.manual_seed(1)
    output.backward(torch.randn(output.shape).to(output.dtype))
    found = {"output": output, "weights": weights}
    for name, part in zip(("query", "key", "value"), parts, strict=True):
        assert part.grad is not None
        found[name] = part.grad
    return {name: value.detach().float() for name, value in found.items()}


@pytest.mark.parametrize("scaling", [None, 0.3], ids=["by size", "given"])
@pytest.mark.parametrize("mask", [None, padding(LENGTH, 20, 1)], ids=["whole", "padded"])
def test_float32_is_transformers_eager_attention(mask: Tensor | None, scaling: float | None) -> None:
    wanted = results(eager_attention_forward, heads(), mask, scaling=scaling)
    found = results(attention, heads(), mask, scaling=scaling)
    for name in wanted:
        assert_sqnr(found[name], wanted[name], 120)


@pytest.mark.parametrize("mask", [None, padding(LENGTH, 20, 1)], ids=["whole", "padded"])
def test_bf16_is_as_near_to_float32_as_transformers_is(mask: Tensor | None) -> None:
    rounded = [part.detach().float().requires_grad_() for part in heads(torch.bfloat16)]
    exact = results(eager_attention_forward, rounded, mask)
    with torch.autocast("cpu", torch.bfloat16):
        eager = results(eager_attention_forward, heads(torch.bfloat16), mask)
        found = results(attention, heads(torch.bfloat16), mask)
    for name in exact:
        assert_sqnr(found[name], exact[name], max(40, sqnr(eager[name], exact[name]) - 1))


def test_bf16_stays_bf16_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output, weights = attention(nn.Module(), *heads(), padding(LENGTH, 20, 1))
    assert output.dtype == weights.dtype == torch.bfloat16


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_a_row_that_may_see_nothing_sees_all_alike(bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        _, weights = attention(nn.Module(), *heads(), padding(LENGTH, 20, 0))
    expected = torch.full((HEADS, LENGTH, LENGTH), 1 / LENGTH)
    assert_sqnr(weights[2].float(), expected, 40 if bf16 else 120)


def test_weights_are_dropped_in_training_alone() -> None:
    whole = attention(nn.Module().eval(), *heads(), None, dropout=0.5)[1]
    assert_equal_bits(whole, attention(nn.Module(), *heads(), None)[1])
    parts = heads()
    torch.manual_seed(7)
    output, weights = attention(nn.Module().train(), *parts, None, dropout=0.5)
    torch.manual_seed(7)
    assert_equal_bits(weights, dropout(whole, 0.5))
    assert 0.4 < (weights == 0).float().mean() < 0.6
    assert_equal_bits(output, (weights @ parts[2]).transpose(1, 2))


@pytest.mark.parametrize("name", BUILDERS)
def test_transformers_finds_it_under_its_name(name: str) -> None:
    """Each architecture with its own mask: the same logits and gradients as with the eager attention."""
    found = {}
    for implementation in ("eager", ATTENTION):
        model = build(name)
        model.set_attn_implementation(implementation)
        given = inputs(model, batch=3, sequence=21)
        output = model(**given)
        logits = torch.stack([output.start_logits, output.end_logits])[:, given["attention_mask"].bool()]
        logits.square().sum().backward()
        gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
        found[implementation] = (model.config._attn_implementation, logits, gradients)
    (_, wanted, wanted_gradients), (used, logits, gradients) = found["eager"], found[ATTENTION]
    assert used == ATTENTION
    assert_sqnr(logits, wanted, 120)
    assert gradients.keys() == wanted_gradients.keys() and gradients
    for key in gradients:
        # Keys' biases move every score of a row alike: their gradient is rounding around zero.
        torch.testing.assert_close(gradients[key], wanted_gradients[key], rtol=1e-3, atol=1e-4)
