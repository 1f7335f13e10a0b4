"""Multiply-adds against the formula, by hand."""

from pathlib import Path

import pytest

from benchmarks.arithmetic import Work, multiply_adds, of_lengths
from benchmarks.inputs import random_batch
from tests.tiny import build
from tests.toolkit import families
from toolkit import Recipe, checkpoint
from toolkit.pipeline import captured, quantized

HIDDEN, INNER, LAYERS = 32, 52, 2  # of tests/tiny.py


def by_hand(rows: int, length: int) -> Work:
    linears = LAYERS * (4 * HIDDEN**2 + 2 * HIDDEN * INNER) + 2 * HIDDEN  # and the head
    return Work(rows * length * linears, LAYERS * rows * 2 * length**2 * HIDDEN)


@pytest.mark.parametrize(("rows", "length"), [(1, 8), (3, 7)])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_a_batch(name: str, rows: int, length: int) -> None:
    model = build(name)
    assert multiply_adds(model, random_batch(model, rows, length)) == by_hand(rows, length)


def test_a_layer_that_is_shared_counts_each_time() -> None:
    model = build("albert")
    into_hidden = 16 * HIDDEN * 8  # ALBERT's narrow embeddings to the hidden size
    hand = by_hand(1, 8)
    assert multiply_adds(model, random_batch(model, 1, 8)) == Work(hand.linears + into_hidden, hand.attention)


def test_what_is_the_same_for_any_batch_is_computed_once() -> None:
    """DeBERTa's 32 distances: of linears only tokens count, of attention the products that are gathered too."""
    model, hand = families.build("deberta-v2"), by_hand(2, 8)
    to_distances = LAYERS * 2 * 2 * 8 * 32 * HIDDEN
    assert multiply_adds(model, random_batch(model, 2, 8)) == Work(hand.linears, hand.attention + to_distances)


def test_lengths_are_counted_without_padding() -> None:
    model = build("bert")
    lengths = (3, 10, 5)
    parts = [by_hand(1, length) for length in lengths]
    wanted = Work(sum(part.linears for part in parts), sum(part.attention for part in parts))
    assert of_lengths(model, random_batch(model, 2, 10), lengths) == wanted


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_graph_does_what_its_model_does(name: str) -> None:
    model = build(name)
    batch = random_batch(model, 2, 12)
    assert multiply_adds(captured(model), batch) == multiply_adds(model, batch)


@pytest.mark.parametrize("rotate", [False, True])
def test_a_quantized_folder_does_what_its_model_does(rotate: bool, tmp_path: Path) -> None:
    model, recipe = build("bert"), Recipe("int", rotate=rotate)
    batch = random_batch(model, 2, 12)
    checkpoint.save(quantized(model, recipe), model, recipe, tmp_path / "saved")
    floats = checkpoint.as_floats(checkpoint.load(tmp_path / "saved"))
    assert multiply_adds(floats, batch) == multiply_adds(model, batch)
