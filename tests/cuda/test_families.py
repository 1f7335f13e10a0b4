"""Models whose attention is not PyTorch's operator, on cuda: rows of tokens, and the same answers."""

import pytest
import torch

from targets.cuda.rotary import CudaRotary
from tests.checks import assert_sqnr
from tests.toolkit.families import MODELS, build
from tests.toolkit.fusing import mask_of
from tests.toolkit.test_families import inputs
from toolkit import Recipe, report_of, transform

TURNED = {"roformer": 4, "llama": 4, "llama in steps": 4, "modernbert": 4}


@pytest.mark.parametrize("name", MODELS)
def test_answers_as_the_model_does(name: str) -> None:
    given, real = inputs(name, "right"), mask_of("right").bool()
    graph = transform(build(name), Recipe("int"), "cuda")
    turning = sum(isinstance(module, CudaRotary) for module in graph.modules())
    assert report_of(graph).fused["rotary"] == TURNED.get(name, 0) and bool(turning) is (name in TURNED)
    with torch.no_grad():
        want, have = build(name)(**given), graph(**given)
    assert_sqnr(have["start_logits"][real], want["start_logits"][real], 30)
