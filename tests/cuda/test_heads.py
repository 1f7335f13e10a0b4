"""Heads that read the first position of each sequence, packed on cuda: close to cpu, and all of it in one place."""

import pytest

from targets.cuda.packed import PackedRows
from tests.checks import assert_sqnr
from tests.cuda.test_graph import GATE_DB
from tests.toolkit.fusing import inputs, mask_of, model_of
from toolkit import Recipe, report_of, transform


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("precision", ["fp", "bf16", "int"])
@pytest.mark.parametrize("name", ["bert classifier", "bert encoder"])
def test_a_head_that_reads_the_first_position(name, precision, padding):
    graph = transform(model_of(name), Recipe(precision), "cuda")
    want = transform(model_of(name), Recipe("int" if precision == "int" else "fp"), "cpu")
    given = inputs(name, mask_of(padding))
    assert report_of(graph).fused["packing"] == 1 and isinstance(graph.packed, PackedRows)
    have, wanted = (list(each(**given).values())[-1] for each in (graph, want))
    assert_sqnr(have, wanted, GATE_DB[precision])
