"""Whether a calibrated graph's folder is transformers' too: it is said what only the graph has, and the way out."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests import tiny
from tests.toolkit import families
from toolkit import Recipe, checkpoint
from toolkit.pipeline import quantized

SMOOTHED = "'smooth: false'"
CORRECTED = "'correct_bias: false'"


def saved(model: nn.Module, recipe: Recipe, place: Path) -> str | None:
    """→ why no other program can read the folder"""
    ids = torch.arange(3, 23).view(2, 10)
    graph = quantized(model, recipe, [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}])
    return checkpoint.save(graph, model, recipe, place).portable


@pytest.mark.parametrize(
    ("name", "recipe", "way_out"),
    [
        ("bert", Recipe("int"), SMOOTHED),
        ("bert", Recipe("int", smooth=False), None),
        ("llama", Recipe("int"), CORRECTED),
        ("llama", Recipe("int", correct_bias=False), None),
    ],
    ids=["norms", "norms not smoothed", "new biases", "no biases"],
)
def test_what_keeps_a_folder_from_transformers(name: str, recipe: Recipe, way_out: str | None, tmp_path: Path) -> None:
    model = tiny.build(name) if name in tiny.BUILDERS else families.build(name)
    why = saved(model, recipe, tmp_path / "saved")
    assert (
        why is None if way_out is None else why is not None and why.endswith(f"; a recipe with {way_out} keeps it out")
    )
