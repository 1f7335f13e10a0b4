"""16 bits as two terms of 8 in ONNX's operators, and what has none there."""

from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.checks import assert_sqnr
from tests.toolkit.exporting import exported, graph_of
from toolkit import Recipe, checkpoint
from toolkit.export import ExportError, onnx_file
from toolkit.onnx_session import open_session
from toolkit.pipeline import lowered

WIDE = {
    "bert dynamic, inputs and weights": ("bert", Recipe("int", activation_bits=16, weight_bits=16)),
    "bert dynamic symmetric, inputs": ("bert", Recipe("int", symmetric=True, activation_bits=16)),
    "bert static, inputs": ("bert", Recipe("int", scheme="static", activation_bits=16)),
    "gpt2 static symmetric, inputs": ("gpt2", Recipe("int", scheme="static", symmetric=True, activation_bits=16)),
}


@pytest.mark.parametrize("case", WIDE)
def test_onnx_runtime_has_the_second_term_too(case: str) -> None:
    """Closer to ours than 8 bits are to the float model (about 40 dB)"""
    name, recipe = WIDE[case]
    path, _ = exported(name, recipe)
    inputs = tiny.inputs(tiny.build(name), 3, 20)
    want = lowered(checkpoint.copied(graph_of(name, recipe)), recipe, "cpu")(**inputs)
    got = open_session(path, threads=1)(**inputs)
    for key in want:
        assert_sqnr(got[key], want[key], 60.0)


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    graph = checkpoint.copied(graph_of("bert", Recipe()))
    logits = graph.graph.find_nodes(op="output")[0].all_input_nodes[0]
    with graph.graph.inserting_after(logits):
        strange = graph.graph.call_function(torch.ops.aten.special_airy_ai.default, (logits,))
    logits.replace_all_uses_with(strange, delete_user_cb=lambda user: user is not strange)
    graph.recompile()
    with pytest.raises(ExportError, match="can't be written as ONNX: .*special_airy_ai"):
        onnx_file.write(graph, tmp_path / "made.onnx", {})
