"""The teacher's share of the loss, by hand."""

from types import SimpleNamespace

import pytest
import torch

from models.finetune import Distillation
from models.finetune.losses import distillation_loss, span_loss, total_loss
from models.finetune.sampling import TrainingWindow
from models.question_answering.features import Window

STUDENT, TAUGHT = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
NONE = torch.zeros(2, 2, dtype=torch.bool)


def divergence(taught: list[float], student: list[float], temperature: float) -> float:
    p, q = (torch.tensor(row, dtype=torch.float64).div(temperature).softmax(0) for row in (taught, student))
    return float((p * (p.log() - q.log()).nan_to_num()).sum()) * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_distance_by_hand(temperature: float) -> None:
    want = (divergence([0, 0], [2, 0], temperature) + divergence([0, 3], [0, 1], temperature)) / 2
    assert distillation_loss(STUDENT, TAUGHT, NONE, temperature).item() == pytest.approx(want, rel=1e-5)
    assert distillation_loss(TAUGHT, TAUGHT, NONE, temperature).item() == 0


def test_padding_takes_no_part() -> None:
    wide = torch.cat([NONE, torch.ones(2, 3, dtype=torch.bool)], 1)
    padded = [torch.cat([logits, torch.full((2, 3), 9.0 * sign)], 1) for sign, logits in ((1, STUDENT), (-1, TAUGHT))]
    have = distillation_loss(*padded, wide, 2.0)
    assert have.item() == pytest.approx(distillation_loss(STUDENT, TAUGHT, NONE, 2.0).item(), rel=1e-6)
    low = distillation_loss(STUDENT.bfloat16(), TAUGHT.bfloat16(), NONE, 2.0)
    assert low.dtype == torch.float32 and low.isfinite()


def test_both_parts_by_their_weight() -> None:
    nowhere = Window(0, [0, 0], None, [None] * 2)
    items = [TrainingWindow(nowhere, 0, 0), TrainingWindow(nowhere, 1, 1)]
    output = SimpleNamespace(start_logits=STUDENT, end_logits=TAUGHT)
    taught = SimpleNamespace(start_logits=TAUGHT, end_logits=TAUGHT)
    hard = span_loss(STUDENT, TAUGHT, items).item()
    soft = distillation_loss(STUDENT, TAUGHT, NONE, 2.0).item() / 2  # the ends are equal
    assert total_loss(output, items, None).item() == hard
    for weight in (0.0, 0.3, 1.0):
        have = total_loss(output, items, Distillation(weight, 2.0), taught).item()
        assert have == pytest.approx((1 - weight) * hard + weight * soft, rel=1e-6)
