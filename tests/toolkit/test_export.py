"""Files for ONNX Runtime: what they compute, what they say, and how they are named."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import fx

from targets._fused import RowsLinear
from targets._whole import QuantizeWhole, Whole
from tests import tiny
from tests.toolkit.exporting import (
    DYNAMIC,
    QUERY,
    STATIC,
    SYMMETRIC,
    SYMMETRIC_DYNAMIC,
    WEIGHTS,
    assert_same,
    exported,
    graph_of,
    read,
)
from toolkit import Recipe, checkpoint
from toolkit.export import onnx_file, pt2
from toolkit.export.check import LEAST_EQUAL, LEAST_EQUAL_INT8, Agreement
from toolkit.onnx_session import open_session

CASES = {
    "bert float": ("bert", Recipe()),
    "bert dynamic": ("bert", DYNAMIC),
    "bert dynamic symmetric": ("bert", SYMMETRIC_DYNAMIC),
    "bert static symmetric": ("bert", SYMMETRIC),
    "bert weights": ("bert", WEIGHTS),
    **{f"{name} static": (name, STATIC) for name in (*tiny.BUILDERS, tiny.TIED)},
}


@pytest.mark.parametrize("case", CASES)
def test_onnx_runtime_computes_what_cpu_computes(case: str) -> None:
    name, recipe = CASES[case]
    assert_same(graph_of(name, recipe), open_session(exported(name, recipe)[0], threads=1), tiny.build(name), recipe)


def test_nodes_and_weights_are_named_after_the_modules() -> None:
    path, written = exported("bert", STATIC)
    model = onnx.load(path)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) and all("/" in name for name in names)
    for part in ("query_input/QuantizeLinear", "query_input/DequantizeLinear", "query/DequantizeLinear",
                 "query/MatMul", "query/Add", "key/MatMul"):  # fmt: skip
        assert f"{QUERY.removesuffix('query')}{part}" in names
    assert written.linears == 12 and written.operators["QuantizeLinear"] == 8  # query, key and value share theirs
    assert written.operators["DequantizeLinear"] == 12 + 8
    sizes = [[d.dim_param for d in value.type.tensor_type.shape.dim] for value in model.graph.input]
    assert sizes == [["batch", "sequence"]] * 3
    assert [value.name for value in model.graph.output] == ["start_logits", "end_logits"]
    linear = graph_of("bert", STATIC).get_submodule(QUERY)
    held = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    assert torch.equal(torch.tensor(held[f"{QUERY}.weight"]).t(), linear.weight)
    assert torch.equal(torch.tensor(held[f"{QUERY}.weight_scale"]), linear.scale)
    (levels,) = [
        node for node in model.graph.node if node.name.startswith(f"{QUERY.removesuffix('query')}query_input/Q")
    ]
    assert held[levels.input[2]] == linear.activation.zero_point  # equal ones are held once, by the name of the first


def test_the_file_says_how_it_was_made_and_nothing_of_this_machine() -> None:
    path, written = exported("bert", STATIC)
    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["opswap.model"] == "somewhere/tiny" and said["opswap.class"] == "BertForQuestionAnswering"
    assert (said["opswap.precision"], said["opswap.scheme"]) == ("int", "static")
    assert "scheme: static" in said["opswap.recipe"] and json.loads(said["opswap.versions"])["torch"]
    assert json.loads(said["opswap.inputs"])["longest"] == tiny.POSITIONS
    assert model.producer_name == "opswap" and model.opset_import[0].version == written.opset == onnx_file.OPSET
    raw = path.read_bytes()
    assert str(Path.cwd()).encode() not in raw and b"site-packages" not in raw


def test_layers_in_bfloat16_are_written_in_float32_and_named() -> None:
    _, written = exported("bert", SYMMETRIC)
    assert written.widened == (QUERY,) and written.linears == 11


def with_a_whole_range(graph: fx.GraphModule, how: Whole) -> fx.GraphModule:
    """The query of layer 0 quantizes its input by the range of all of it, as a graph of another quantizer does."""
    copy = checkpoint.copied(graph)
    node = next(node for node in copy.graph.nodes if node.target == QUERY)
    width = copy.get_submodule(QUERY).out_features
    copy.add_submodule("whole", QuantizeWhole(how))
    copy.set_submodule(QUERY, RowsLinear(copy.get_submodule(QUERY)))
    aten = torch.ops.aten
    with copy.graph.inserting_before(node):
        rows = copy.graph.call_module("whole", node.args)
        sizes = [copy.graph.call_function(aten.sym_size.int, (node.args[0], dim)) for dim in (0, 1)]
    node.args = (rows,)
    with copy.graph.inserting_after(node):
        shaped = copy.graph.call_function(aten.reshape.default, (node, [*sizes, width]))
    node.replace_all_uses_with(shaped, delete_user_cb=lambda user: user is not shaped)
    copy.graph.lint()
    copy.recompile()
    return copy


@pytest.mark.parametrize(
    "how", [Whole(False, 0, 255, 1e-6), Whole(True, 1, 255, 1e-6)], ids=["asymmetric", "symmetric"]
)
def test_ranges_of_a_whole_tensor_are_written_too(how: Whole, tmp_path: Path) -> None:
    graph, model = with_a_whole_range(graph_of("bert", DYNAMIC), how), tiny.build("bert")
    onnx_file.write(checkpoint.copied(graph), tmp_path / "whole.onnx", {})
    assert_same(graph, open_session(tmp_path / "whole.onnx", threads=1), model, DYNAMIC)
    pt2.write(checkpoint.copied(graph), tmp_path / "whole.pt2", {})
    back = pt2.read(tmp_path / "whole.pt2")
    assert_same(graph, back, model, DYNAMIC)
    assert [module.how for module in read(back).modules() if isinstance(module, QuantizeWhole)] == [how]


def test_weights_in_8_bits_alone_are_counted_and_stay_so(tmp_path: Path) -> None:
    assert pt2.write(checkpoint.copied(graph_of("bert", WEIGHTS)), tmp_path / "bert.pt2", {}) == 12
    program = torch.export.load(tmp_path / "bert.pt2")
    assert sum(value.dtype == torch.int8 for value in program.state_dict.values()) == 12
    path, written = exported("bert", WEIGHTS)
    assert written.linears == 12 and written.operators["DequantizeLinear"] == 12
    assert sum(numpy_helper.to_array(value).dtype == "int8" for value in onnx.load(path).graph.initializer) == 12


@pytest.mark.parametrize(
    ("share", "questions", "least"),
    [(LEAST_EQUAL, 121, 120), (LEAST_EQUAL_INT8, 121, 118), (0.07, 100, 7), (0.0, 5, 0), (1.0, 5, 5), (0.99, 0, 0)],
)
def test_the_least_number_of_equal_answers_that_passes(share, questions, least):
    assert Agreement(40.0, questions, least, share).passed and Agreement(40.0, questions, least, share).least == least
    assert not Agreement(40.0, questions, least - 1, share).passed and not Agreement(34.9, questions, least).passed
