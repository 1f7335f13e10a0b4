"""Embeddings as one module, for ids of any kind that PyTorch looks up."""

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from tests import tiny
from tests.checks import assert_sqnr
from tests.toolkit.fusing import SAME_DB, inputs, mask_of
from toolkit import Recipe, report_of, transform


class Counted(nn.Module):
    """An encoder whose positions count the real tokens, in integers of `dtype`"""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base, self.dtype = AutoModel.from_config(tiny.build("bert").config), dtype
        self.config = self.base.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        places = (attention_mask.cumsum(1) - 1).clamp(min=0).to(self.dtype)
        hidden = self.base(input_ids=input_ids, attention_mask=attention_mask, position_ids=places)[0]
        return {"hidden": hidden}


@pytest.mark.parametrize("target", ["cpu", "customcpu", "aie"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_ids_that_a_model_makes(dtype: torch.dtype, target: str) -> None:
    model = Counted(dtype).eval()
    graph = transform(model, Recipe("int"), target)
    plain = transform(model, Recipe("int", without=("lookups", "packing")), target)
    given = {name: value for name, value in inputs("bert", mask_of("right")).items() if name != "token_type_ids"}
    real = given["attention_mask"].bool()
    assert target == "cpu" or report_of(graph).fused["lookups"] == 1
    assert_sqnr(graph(**given)["hidden"][real], plain(**given)["hidden"][real], SAME_DB if target == "cpu" else 40)
