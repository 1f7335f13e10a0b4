"""Whole models through the buckets of CUDA graphs, where what stands in for a graph is recorded: no GPU is needed."""

import pytest
import torch

from targets._place import PLACED
from targets.cuda.buckets import Captured, Replays
from targets.cuda.packed import PackedRows
from tests import tiny
from tests.checks import assert_sqnr
from tests.cuda.conftest import INTERPRETED
from tests.cuda.recording import recorded
from tests.toolkit.families import build
from tests.toolkit.fusing import inputs, mask_of, model_of
from toolkit import Recipe, transform

HEADS = ("bert classifier", "bert encoder")
SIZES = ((3, 17), (2, 9), (3, 17), (4, 16), (3, 13))
pytestmark = pytest.mark.skipif(not INTERPRETED, reason="there is a GPU, which captures by itself: test_graph")


def replaying(packed: PackedRows) -> list[int]:
    """Makes `packed` replay as on a GPU. → how many tokens each capture had, filled up"""
    made: list[int] = []

    def capture(run, held, longest: int) -> Captured:
        made.append(len(held[0]))
        return recorded(run, held, longest)

    packed.replays = Replays(packed.run, torch.device("cpu"), capture)
    packed.device = torch.device("cuda")  # from here on it takes the way of a GPU
    return made


@pytest.mark.parametrize("precision", ["bf16", "int", "fp8"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_batches_of_many_sizes_are_answered_as_without(name: str, precision: str) -> None:
    model = tiny.build(name)
    plain, graph = (transform(model, Recipe(precision), "cuda") for _ in range(2))
    made = replaying(graph.packed)
    for seed, size in enumerate(SIZES):
        given = tiny.inputs(model, *size, seed=seed)
        real = given["attention_mask"].bool()
        assert_sqnr(graph(**given).start_logits[real], plain(**given).start_logits[real], 40)
    assert made and all(tokens % 16 == 0 for tokens in made) and len(made) < len(SIZES)


@pytest.mark.parametrize("precision, db", [("fp", 110), ("bf16", 40), ("int", 40)])
def test_angles_of_the_real_tokens_are_part_of_what_is_replayed(precision: str, db: float) -> None:
    model = build("llama")
    plain, graph = (transform(model, Recipe(precision), "cuda") for _ in range(2))
    made = replaying(graph.packed)
    for seed, size in enumerate(SIZES):
        given = {key: value.flip(1) for key, value in tiny.inputs(model, *size, seed=seed).items()}
        real = given["attention_mask"].bool()
        assert_sqnr(graph(**given).start_logits[real], plain(**given).start_logits[real], db)
    assert made and len(made) < len(SIZES)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("precision", ["bf16", "int"])
@pytest.mark.parametrize("name", HEADS)
def test_heads_that_read_the_first_position(name: str, precision: str, padding: str) -> None:
    """Only some keys are real there: what an earlier batch left in the mask, behind the last sequence, is no key."""
    plain, graph = (transform(model_of(name), Recipe(precision), "cuda") for _ in range(2))
    made, given = replaying(graph.packed), inputs(name, mask_of(padding))
    for _ in range(3):
        for have, want in zip(graph(**given).values(), plain(**given).values(), strict=True):
            assert_sqnr(have, want, 40)
    assert len(made) == 1


@pytest.mark.parametrize("name, elsewhere", [("bert classifier", True), ("bert", False)])
def test_what_follows_the_rows_is_on_the_gpu_where_it_calls_modules(
    monkeypatch: pytest.MonkeyPatch, name: str, elsewhere: bool
) -> None:
    """as they may be kernels; the meta device is in a GPU's stead"""
    monkeypatch.setattr("targets.cuda.device.device", lambda: torch.device("meta"))
    graph = transform(model_of(name) if elsewhere else tiny.build(name), Recipe("bf16"), "cuda")
    (core,) = graph.packed.held
    assert graph.meta[PLACED] == torch.device("meta" if elsewhere else "cpu")
    assert {weight.device.type for weight in core.parameters()} == {"meta"}
