"""The generation loop on a model that is a table: what comes next depends on the last token alone."""

from types import SimpleNamespace

import pytest
import torch

from models import InputError
from models.generation import How, generate

END, PAD = 0, 9


def table(after: dict[int, int], seen: list[torch.Tensor] | None = None):
    """A model in which `after[token]` is the likeliest token after `token`; it looks at no padding"""

    def run(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        if seen is not None:
            seen.append(input_ids * attention_mask + PAD * (1 - attention_mask))
        logits = torch.zeros(*input_ids.shape, 10)
        for token, following in after.items():
            logits[input_ids == token, following] = 5.0
        return SimpleNamespace(logits=logits)

    return run


def test_rows_end_each_by_itself() -> None:
    seen: list[torch.Tensor] = []
    model = table({1: 2, 2: END, 3: 4, 4: 5, 5: 3}, seen)
    found = generate(model, [[7, 7, 1], [3]], How(4), (END,), PAD)
    assert [(one.tokens, one.ended) for one in found] == [([2], True), ([4, 5, 3, 4], False)]
    assert seen[0].tolist() == [[7, 7, 1], [3, PAD, PAD]]
    assert [len(batch) for batch in seen] == [2, 2, 1, 1]  # a row that has ended is not computed again


def test_without_an_end_all_tokens_come() -> None:
    assert generate(table({1: 1}), [[1]], How(3), (), PAD)[0].tokens == [1, 1, 1]


def test_steps_are_told() -> None:
    steps: list[int] = []
    generate(table({1: 1}), [[1]], How(3), (), PAD, steps.append)
    assert steps == [1, 2, 3]


def test_top_k_of_one_is_greedy_whatever_the_seed() -> None:
    model = table({1: 2, 2: 3, 3: 1})
    for seed in range(5):
        found = generate(model, [[1]], How(6, sample=True, top_k=1, seed=seed), (), PAD)
        assert found[0].tokens == [2, 3, 1, 2, 3, 1]


def test_repetition_makes_other_tokens_win() -> None:
    found = generate(table({1: 1}), [[1]], How(1, repetition=1e9), (), PAD)
    assert found[0].tokens == [1]  # 5 / 1e9 is still above 0
    flat = generate(table({}), [[0]], How(3), (), PAD)
    assert flat[0].tokens == [0, 0, 0]


def test_nan_is_said() -> None:
    def broken(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.full((*input_ids.shape, 10), torch.nan))

    with pytest.raises(InputError, match="not numbers"):
        generate(broken, [[1]], How(1), (), PAD)
