"""Every scheme on the whole way: accuracy, and static graphs as fused as dynamic ones."""

import pytest
import torch

from operators.feed_forward import unpack_layer
from targets._layers import PackedLayers
from targets._packed import PackedEmbedNorm
from tests import tiny
from tests.checks import sqnr
from tests.toolkit.transforming import GATE_DB, SCHEMES, model_and_graph, same_bits
from toolkit import report_of

STATIC_DB = {"static": 25.0, "static symmetric": 25.0}  # two batches are few: values of others lie outside


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_stays_close_to_float(scheme):
    model, graph = model_and_graph("bert", "customcpu", **SCHEMES[scheme])
    given = tiny.inputs(model, 3, 17)
    with torch.no_grad():
        expected = model(**given)[0]
    real = given["attention_mask"].bool()  # at padding the packed graph gives zeros
    assert sqnr(graph(**given)[0][real], expected[real]) >= STATIC_DB.get(scheme, GATE_DB)


def fixed_scales(graph):
    """→ of all rows of bytes that a lowered graph of two layers makes, 0 where each row has its own"""
    embed = next(module for module in graph.modules() if isinstance(module, PackedEmbedNorm))
    layers = next(module for module in graph.modules() if isinstance(module, PackedLayers))
    first, last = (unpack_layer("it", part.layer) for part in layers.parts)
    made = [layer[place] for layer in (first, last) for place in (8, 20)]  # of the first norm, and of GELU
    return [embed.levels[1], *layers.how[3], *made, first[33]]  # and of the norm that ends the first


def test_static_graphs_are_fused_as_dynamic_ones_are():
    graphs = {name: model_and_graph("bert", "customcpu", **options)[1] for name, options in SCHEMES.items()}
    fused = {name: report_of(graph).fused for name, graph in graphs.items()}
    assert all(counts == fused["dynamic"] for counts in fused.values())
    for name, graph in graphs.items():
        scales = fixed_scales(graph)
        assert len(scales) == 8 and all((scale == 0) == ("dynamic" in name) for scale in scales)


def test_fused_static_graphs_of_customcpu_and_aie_are_equal():
    options = SCHEMES["static"]
    same_bits({name: model_and_graph("bert", name, **options)[1] for name in ("customcpu", "aie")},
              tiny.inputs(tiny.build("bert"), 3, 17))  # fmt: skip
