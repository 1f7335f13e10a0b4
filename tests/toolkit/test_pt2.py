"""PyTorch's exported graphs: read back with the same integers, and on every target."""

from pathlib import Path

import pytest
import torch

from targets._linear import QuantizedLinear
from tests import tiny
from tests.checks import assert_sqnr
from tests.toolkit.exporting import DYNAMIC, STATIC, SYMMETRIC, SYMMETRIC_DYNAMIC, assert_same, graph_of, read
from toolkit import Recipe, UsageError, checkpoint, transform
from toolkit.export import pt2
from toolkit.export.about import about
from toolkit.pipeline import captured, lowered


@pytest.mark.parametrize("recipe", [DYNAMIC, STATIC, SYMMETRIC, SYMMETRIC_DYNAMIC],
                         ids=["dynamic", "static", "static symmetric", "dynamic symmetric"])  # fmt: skip
def test_pt2_is_read_back_with_the_same_integers(recipe: Recipe, tmp_path: Path) -> None:
    graph, path = graph_of("bert", recipe), tmp_path / "bert.pt2"
    pt2.write(checkpoint.copied(graph), path, {"made": "here"})
    assert b"opswap" not in b"".join(str(node.target).encode() for node in pt2.read(path).graph.nodes)
    assert_same(graph, pt2.read(path), tiny.build("bert"), recipe)
    back = read(pt2.read(path))
    want = {name: module for name, module in graph.named_modules() if isinstance(module, QuantizedLinear)}
    got = {name: module for name, module in back.named_modules() if isinstance(module, QuantizedLinear)}
    assert want.keys() == got.keys()
    for name, linear in want.items():
        assert torch.equal(got[name].weight, linear.weight) and torch.equal(got[name].scale, linear.scale)
        assert got[name].activation == linear.activation


def test_a_file_takes_what_its_model_takes(tmp_path: Path) -> None:
    """Token types that change nothing, and no more tokens than there are positions for."""
    model, path = tiny.build("distilbert"), tmp_path / "distilbert.pt2"
    graph = captured(model)
    pt2.write(checkpoint.copied(graph), path, about(graph, Recipe(), "distilbert"))
    given, back = tiny.inputs(model, 2, 9), pt2.read(path)
    types = {"token_type_ids": torch.zeros_like(given["input_ids"])}
    assert torch.equal(back(**given, **types).start_logits, back(**given).start_logits)
    longer = {name: value.repeat(1, 100) for name, value in given.items()}
    with pytest.raises(UsageError, match="at most 64 tokens"):
        back(**longer)


def test_pt2_runs_on_every_target(tmp_path: Path) -> None:
    model = tiny.build("bert")
    pt2.write(checkpoint.copied(graph_of("bert", STATIC)), tmp_path / "bert.pt2", {})
    inputs = tiny.inputs(model, 2, 9)
    want = lowered(checkpoint.copied(graph_of("bert", STATIC)), STATIC, "cpu")(**inputs)
    for target in ("customcpu", "aie"):
        graph = transform(pt2.read(tmp_path / "bert.pt2"), Recipe(precision="int"), target)
        real = inputs["attention_mask"].bool()  # the others are dropped there
        assert_sqnr(graph(**inputs).start_logits[real], want.start_logits[real], 30.0)
