"""Calibration: which linears, which tokens, killed and gone on, and what it refuses."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx

from tests import tiny
from tests.toolkit.fusing import inputs, mask_of, model_of
from toolkit import Recipe, UsageError, capture
from toolkit.calibrate import calibrate, state, stream
from toolkit.pipeline import PASSES, run

STATIC = Recipe("int", scheme="static", symmetric=True)
DATA = [inputs("bert", mask_of("right"), seed) for seed in range(6)]


@cache
def graph_of(name: str = "bert") -> fx.GraphModule:
    graph = capture(model_of(name))
    run(graph, PASSES)
    return graph


class Killed(Exception):
    pass


class Dying(list):
    """Batches that end the run before the n-th, but only where the graph is to be called with them."""

    def __init__(self, data: list, before: int) -> None:
        super().__init__(data)
        self.before, self.passes = before, 0

    def __iter__(self):
        self.passes += 1
        for number, batch in enumerate(list.__iter__(self)):
            if self.passes > 1 and number == self.before:  # the first pass is the checksum's
                raise Killed
            yield batch


@pytest.mark.parametrize("name, count", [("bert", 12), ("albert", 7), ("gpt2", 8)])
def test_every_linear_that_is_not_kept(name, count):
    found = calibrate(graph_of(name), STATIC, [inputs(name, mask_of("right"))])
    assert len(found.activations) == count and "qa_outputs" not in found.activations
    assert all(activation.scale and activation.symmetric for activation in found.activations.values())


def test_query_key_and_value_are_alike():
    found = calibrate(graph_of(), Recipe("int", scheme="static", symmetric=False), DATA).activations
    for layer in (0, 1):
        names = [f"bert.encoder.layer.{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        assert found[names[0]] == found[names[1]] == found[names[2]]
    assert len(set(found.values())) == 8 and {activation.zero_point for activation in found.values()} != {128}


def test_the_ranges_are_those_of_the_inputs():
    graph, name = graph_of(), "bert.encoder.layer.1.output.dense"
    seen: list[Tensor] = []
    linear = graph.get_submodule(name)
    handle = linear.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    for batch in DATA:
        graph(**batch)
    handle.remove()
    real = torch.cat([x[batch["attention_mask"].bool()] for x, batch in zip(seen, DATA, strict=True)])
    scale = calibrate(graph, STATIC, DATA).activations[name].scale
    assert scale == float(real.abs().max() / 127)


def test_padding_does_not_count():
    given = inputs("bert", mask_of("right"))
    wild = copy.deepcopy(given)
    wild["input_ids"][given["attention_mask"] == 0] = 7
    wild["token_type_ids"][given["attention_mask"] == 0] = 1
    assert calibrate(graph_of(), STATIC, [wild]).report["tokens"] == int(given["attention_mask"].sum())
    one, other = (calibrate(graph_of(), STATIC, [batch]).activations for batch in (given, wild))
    for name, activation in one.items():  # attention over other padding adds its zeros in another order
        assert other[name].scale == pytest.approx(activation.scale, rel=1e-5)


@pytest.mark.parametrize("before", [1, 3, 5])
def test_killed_and_gone_on(before, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "SECONDS", 0)
    monkeypatch.setattr(stream, "SHARE", 0)
    whole = calibrate(graph_of(), STATIC, DATA)
    with pytest.raises(Killed):
        calibrate(graph_of(), STATIC, Dying(DATA, before), tmp_path)
    done: list[int] = []
    assert calibrate(graph_of(), STATIC, DATA, tmp_path, done.append) == whole
    assert done == list(range(before, 7))
    again: list[int] = []
    assert calibrate(graph_of(), STATIC, DATA, tmp_path, again.append) == whole and again == [6]
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_other_data_models_and_linears_have_files_of_their_own(tmp_path):
    other = tiny.build("bert", seed=1)
    changed = capture(other)
    run(changed, PASSES)
    for graph, recipe, data in (
        (graph_of(), STATIC, DATA),
        (changed, STATIC, DATA),
        (graph_of(), STATIC, DATA[:2]),
        (graph_of(), Recipe("int", scheme="static", keep=("*query",)), DATA),
        (graph_of(), Recipe("int", scheme="static", keep=()), DATA),
    ):
        calibrate(graph, recipe, data, tmp_path)
    sizes = {path.stat().st_size for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 5 and max(sizes) < 2_000_000


def test_one_file_serves_every_way_to_find_ranges(tmp_path):
    for ranges in ("minmax", "mse", "percentile"):
        for symmetric in (True, False):
            recipe = Recipe("int", scheme="static", ranges=ranges, symmetric=symmetric)
            report = calibrate(graph_of(), recipe, DATA, tmp_path).report
            assert report["ranges"] == ranges and report["batches"] == 6
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all"])
def test_a_damaged_file_is_said_and_made_anew(damage, tmp_path, caplog):
    whole = calibrate(graph_of(), STATIC, DATA, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert calibrate(graph_of(), STATIC, DATA, tmp_path) == whole
    assert "begins anew" in caplog.text and path.stat().st_size > 100


def test_the_file_has_the_rights_of_any_new_file_and_a_failure_leaves_none(tmp_path, monkeypatch):
    calibrate(graph_of(), STATIC, DATA, tmp_path / "made")
    (path,) = (tmp_path / "made").iterdir()
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode

    def full(tensors: dict, place: Path, metadata: dict) -> None:
        place.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(state, "save_tensors", full)
    with pytest.raises(OSError, match="no space left"):
        calibrate(graph_of(), STATIC, DATA, tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []


def test_the_file_does_not_grow_with_the_data(tmp_path):
    for count in (1, 6):
        calibrate(graph_of(), STATIC, DATA[:count], tmp_path / str(count))
    one, many = (next(Path(tmp_path / str(count)).iterdir()).stat().st_size for count in (1, 6))
    assert one == many


def test_what_cannot_be_calibrated_with():
    with pytest.raises(UsageError, match="iterable more than once; got an iterator"):
        calibrate(graph_of(), STATIC, iter(DATA))
    with pytest.raises(UsageError, match="at least one batch"):
        calibrate(graph_of(), STATIC, [])
    with pytest.raises(UsageError, match="at least one batch"):
        calibrate(graph_of(), STATIC, [inputs("bert", torch.zeros(2, 4, dtype=torch.int64))])


def test_activations_that_are_not_finite_are_named():
    model = tiny.build("bert")
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.bias[3] = torch.inf
    graph = capture(model)
    run(graph, PASSES)
    with pytest.raises(ValueError, match=r"input of linear bert\.encoder\.layer\.0\.output\.dense: .*finite"):
        calibrate(graph, STATIC, DATA)
