"""Every operator passes torch's own checks, and can be exported."""

import pytest
import torch

from operators import OPERATORS
from tests.checks import assert_equal_bits
from tests.operators.arguments import ARGUMENTS, FIXED, LAYER, NORM, RESIDUAL, X
from tests.operators.samples import ops


def test_all_are_tested() -> None:
    assert set(ARGUMENTS) == set(OPERATORS)


@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str) -> None:
    for args in ARGUMENTS[name]:
        torch.library.opcheck(getattr(ops, name).default, args)


def test_opcheck_of_a_norm_with_a_residual() -> None:
    torch.library.opcheck(ops.norm_rows.default, (RESIDUAL, *NORM, True, *FIXED), {"residual": RESIDUAL})


def test_export_keeps_sizes_free() -> None:
    class Layer(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ops.linear_int8(x, *LAYER.args(), True)

    sizes = {"x": {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}}
    exported = torch.export.export(Layer(), (X,), dynamic_shapes=sizes).module()
    x = torch.randn(3, 7, 33)
    assert_equal_bits(exported(x), ops.linear_int8(x, *LAYER.args(), True))
