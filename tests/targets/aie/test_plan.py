"""What a model costs: which linears are called, where the time goes, and what other ways would take."""

import pytest
import torch

from benchmarks.inputs import random_batch
from targets.aie import old_example, plan
from targets.aie.cycles import Gemm, cost
from targets.aie.devices import BUILT_IN, XDNA, XDNA2
from targets.aie.plan import Call, Work
from tests.tiny import BUILDERS
from toolkit import Recipe, transform

BERT = [Gemm(384, 1024, 3072), Gemm(384, 1024, 1024), Gemm(384, 1024, 4096), Gemm(384, 4096, 1024)]
LARGE = Work(tuple(Call(f"layer.{layer}.{part}", gemm) for layer in range(24) for part, gemm in enumerate(BERT)),
             elements=142_000_000, attention=7_250_000_000)  # fmt: skip
DEVICES = pytest.mark.parametrize("device", BUILT_IN.values(), ids=list(BUILT_IN))


def observed(name: str, without: tuple[str, ...] = ()) -> Work:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = BUILDERS[name]().eval()
    graph = transform(model, Recipe(precision="int", without=without), target="aie")
    return plan.observe(graph, random_batch(model, 3, 10), attention=77)


def test_the_linears_of_bert_in_their_order():
    work = observed("bert")
    layer = [Gemm(30, 32, 96), Gemm(30, 32, 32), Gemm(30, 32, 52), Gemm(30, 52, 32)]
    assert [call.gemm for call in work.calls] == 2 * layer
    assert [plan.kind(call.name) for call in work.calls[:4]] == [plan.kind(call.name) for call in work.calls[4:]]
    # scaling once an element that comes out; GELU twice, two norms, and the embeddings' norm once more
    assert work.elements == 30 * (2 * (96 + 2 * 32 + 2 * 52 + 2 * 32) + 32) and work.attention == 77


@pytest.mark.parametrize("name", BUILDERS)
def test_every_architecture_is_counted(name):
    work = observed(name)
    assert sum(call.gemm.macs for call in work.calls) >= 2 * 30 * (4 * 32 * 32 + 2 * 32 * 52)
    assert plan.predict(XDNA2, work).seconds > 0


def test_the_count_does_not_depend_on_fusions():
    plain = observed("bert", without=("attention", "qkv", "rows", "packing", "quantize", "gelu", "add_norm",
                                      "embeddings", "lookups", "attention_rows"))  # fmt: skip
    assert sum(call.gemm.macs for call in plain.calls) == sum(call.gemm.macs for call in observed("bert").calls)
    assert len(plain.calls) == 12 and {call.gemm.m for call in plain.calls} == {30}


def test_looking_leaves_the_graph_as_it_was():
    model = BUILDERS["bert"]().eval()
    graph, batch = transform(model, Recipe(precision="int"), target="aie"), random_batch(model, 2, 7)
    before = graph(**batch)
    assert plan.observe(graph, batch, 0) == plan.observe(graph, batch, 0)
    assert all(torch.equal(one, other) for one, other in zip(before.values(), graph(**batch).values(), strict=True))


@DEVICES
def test_the_parts_add_up(device):
    found = plan.predict(device, LARGE)
    assert sum(found.parts().values()) == pytest.approx(found.seconds)
    assert found.seconds == pytest.approx(sum(one.seconds for one in found.costs) + LARGE.host(device))
    assert found.parts()["dispatch"] == pytest.approx(96 * device.dispatch)
    assert found.parts()["reconfiguration"] == 0 and all(part >= 0 for part in found.parts().values())
    assert len({one.tile for one in found.costs}) == 1
    assert 0.2 < found.tops / (2 * device.peak() / 1e12) < 1


@DEVICES
def test_other_ways(device):
    ways = plan.what_if(device, LARGE, batches=(8,))
    here = plan.predict(device, LARGE).seconds
    assert ways["as it is: a dispatch a linear, one design"] == here
    assert ways["dispatches queued behind each other"] == pytest.approx(here - 96 * (device.dispatch - device.queued))
    assert ways["one dispatch for all"] == pytest.approx(here - 95 * device.dispatch)
    assert ways["8 times the batch, dispatches queued"] < ways["8 times the batch"] < here
    own = plan.with_own_tiles(device, LARGE)
    changes = own.reconfiguration / device.reconfigure
    assert changes == pytest.approx(round(changes)) and 0 <= changes <= 96
    assert ways["the best tile for each linear, reconfigured"] == own.seconds
    for call, one in zip(LARGE.calls, own.costs, strict=True):
        assert one.seconds <= cost(device, call.gemm, plan.predict(device, LARGE).costs[0].tile).seconds


def test_one_design_needs_no_reconfiguration():
    same = Work(LARGE.calls[:1] * 5, 0, 0)
    assert plan.with_own_tiles(XDNA, same).reconfiguration == 0
    two = Work((Call("a", Gemm(16, 56, 16)), Call("b", Gemm(4096, 4096, 4096))), 0, 0)
    assert plan.with_own_tiles(XDNA, two).reconfiguration == 2 * XDNA.reconfigure  # there and back for the next call


def test_a_kind_has_no_number_of_a_layer():
    assert plan.kind("bert.encoder.layer.11.output.dense") == "bert.encoder.layer.*.output.dense"
    assert plan.kind("conv2d.3") == "conv2d.3" and plan.kind("linear_3_q") == "linear_*_q"


def test_amds_old_example():
    found = old_example.old_example()
    assert found.launches == 24 * (4 + 2 * 2) * 12 and found.waste == pytest.approx(8 * 2048**2 / (12 * 1024**2))
    assert found.dispatch == pytest.approx(2304 * XDNA.dispatch)
    # every launch fetches 4 MB of weights
    assert found.array > 2304 * 2048**2 / XDNA.read
    assert found.seconds < old_example.MEASURED[0], "what is left of it was the host's"
    assert plan.predict(XDNA, LARGE).seconds < found.seconds / 5
