"""Files for other engines: what they compute, what they say, how they are named, and how they come to stand there."""

import json
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import fx

from targets._fused import RowsLinear
from targets._linear import QuantizedLinear
from targets._whole import QuantizeWhole, Whole
from tests import tiny
from tests.checks import assert_sqnr
from toolkit import Recipe, Rule, checkpoint, transform
from toolkit.export import ExportError, onnx_file, pt2
from toolkit.export.about import about
from toolkit.export.check import LEAST_EQUAL, LEAST_EQUAL_INT8, Agreement
from toolkit.export.files import beside
from toolkit.onnx_session import open_session
from toolkit.pipeline import captured, lowered, quantized

DYNAMIC, STATIC = Recipe(precision="int"), Recipe(precision="int", scheme="static")
SYMMETRIC = Recipe(precision="int", scheme="static", symmetric=True, rules=(Rule("*.0.*query", precision="bf16"),))
SYMMETRIC_DYNAMIC = Recipe(precision="int", symmetric=True)
WEIGHTS = Recipe(precision="int", scheme="weight")
QUERY = "bert.encoder.layer.0.attention.self.query"
CASES = {
    "bert float": ("bert", Recipe()),
    "bert dynamic": ("bert", DYNAMIC),
    "bert dynamic symmetric": ("bert", SYMMETRIC_DYNAMIC),
    "bert static symmetric": ("bert", SYMMETRIC),
    "bert weights": ("bert", WEIGHTS),
    **{f"{name} static": (name, STATIC) for name in (*tiny.BUILDERS, tiny.TIED)},
}


@lru_cache
def graph_of(name: str, recipe: Recipe) -> fx.GraphModule:
    """Before fusing and lowering"""
    model = tiny.build(name)
    if recipe.precision != "int":
        return captured(model)
    return quantized(model, recipe, [tiny.inputs(model, 4, 20)] if recipe.is_static() else None)


@lru_cache
def exported(name: str, recipe: Recipe) -> tuple[Path, onnx_file.Written]:
    path = Path(mkdtemp(prefix="opswap-test-")) / f"{name}.onnx"
    graph = graph_of(name, recipe)
    return path, onnx_file.write(checkpoint.copied(graph), path, about(graph, recipe, "somewhere/tiny"))


def assert_same(graph: fx.GraphModule, other: Any, model: torch.nn.Module, recipe: Recipe) -> None:
    """`other` computes what `graph` does on the target cpu, at any shape."""
    reference = lowered(checkpoint.copied(graph), recipe, "cpu")
    for batch, sequence in ((2, 16), (1, 1), (3, 33)):
        inputs = tiny.inputs(model, batch, sequence)
        want, got = reference(**inputs), other(**inputs)
        assert list(want.keys()) == list(got.keys())
        for key in want:
            assert_sqnr(got[key], want[key], 35.0)


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
    assert held[f"{QUERY}_input.input_zero_point"] == linear.activation.zero_point


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


def read(graph: fx.GraphModule) -> fx.GraphModule:
    """→ what read_qdq makes of a graph"""
    return quantized(graph, Recipe(precision="int"))


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


def test_pt2_runs_on_every_target(tmp_path: Path) -> None:
    model = tiny.build("bert")
    pt2.write(checkpoint.copied(graph_of("bert", STATIC)), tmp_path / "bert.pt2", {})
    inputs = tiny.inputs(model, 2, 9)
    want = lowered(checkpoint.copied(graph_of("bert", STATIC)), STATIC, "cpu")(**inputs)
    for target in ("customcpu", "aie"):
        graph = transform(pt2.read(tmp_path / "bert.pt2"), Recipe(precision="int"), target)
        real = inputs["attention_mask"].bool()  # the others are dropped there
        assert_sqnr(graph(**inputs).start_logits[real], want.start_logits[real], 30.0)


def test_weights_beside_the_file_come_and_go_with_it(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "bert.onnx"
    found = []
    for recipe in (DYNAMIC, STATIC):
        with beside(place) as new:
            onnx_file.write(checkpoint.copied(graph_of("bert", recipe)), new, {}, largest=0)
        found.append(sorted(path.name for path in place.parent.iterdir()))
        assert_same(graph_of("bert", recipe), open_session(place, threads=1), tiny.build("bert"), recipe)
    assert [len(names) for names in found] == [2, 2] and found[0] != found[1]  # the first one's weights are gone
    assert place.stat().st_size < exported("bert", STATIC)[0].stat().st_size


def test_another_kind_of_file_leaves_the_weights_beside_alone(tmp_path: Path) -> None:
    with beside(tmp_path / "model.onnx") as new:
        onnx_file.write(checkpoint.copied(graph_of("bert", STATIC)), new, {}, largest=0)
    there = {path.name for path in tmp_path.iterdir()}
    with beside(tmp_path / "model.pt2") as new:
        new.write_text("another model, or the same")
    assert {path.name for path in tmp_path.iterdir()} == {*there, "model.pt2"}


def test_weights_in_8_bits_alone_are_counted_and_stay_so(tmp_path: Path) -> None:
    assert pt2.write(checkpoint.copied(graph_of("bert", WEIGHTS)), tmp_path / "bert.pt2", {}) == 12
    program = torch.export.load(tmp_path / "bert.pt2")
    assert sum(value.dtype == torch.int8 for value in program.state_dict.values()) == 12
    path, written = exported("bert", WEIGHTS)
    assert written.linears == 12 and written.operators["DequantizeLinear"] == 12
    assert sum(numpy_helper.to_array(value).dtype == "int8" for value in onnx.load(path).graph.initializer) == 12


def test_what_goes_wrong_leaves_what_stood_there(tmp_path: Path) -> None:
    place = tmp_path / "model.onnx"
    place.write_text("old")
    with pytest.raises(ZeroDivisionError), beside(place) as new:
        new.write_text("new")
        raise ZeroDivisionError
    assert place.read_text() == "old" and list(tmp_path.iterdir()) == [place]
    with pytest.raises(ExportError, match="is a folder: give the name of a file"), beside(tmp_path):
        pass
    with pytest.raises(ExportError, match="can't be written to"), beside(place / "below" / "model.onnx"):
        pass


@pytest.mark.parametrize(
    ("share", "questions", "least"),
    [(LEAST_EQUAL, 121, 120), (LEAST_EQUAL_INT8, 121, 118), (0.07, 100, 7), (0.0, 5, 0), (1.0, 5, 5), (0.99, 0, 0)],
)
def test_the_least_number_of_equal_answers_that_passes(share, questions, least):
    assert Agreement(40.0, questions, least, share).passed and Agreement(40.0, questions, least, share).least == least
    assert not Agreement(40.0, questions, least - 1, share).passed and not Agreement(34.9, questions, least).passed
