"""linear_float and pack_weight_float refuse what they cannot do, in one line, compiled or not."""

import pytest
import torch

from operators import floating, kernels
from tests.checks import assert_refuses
from tests.operators.samples import ops

kernels.load()

X, WEIGHT, BIAS = torch.randn(2, 5, 33), torch.randn(70, 33), torch.randn(70)
WIDE, PAIRS = ops.pack_weight_float(WEIGHT, False), ops.pack_weight_float(WEIGHT, True)

BAD: dict[str, tuple[str, tuple]] = {
    "pack a double": ("pack_weight_float", (WEIGHT.double(), False)),
    "pack 1 dimension": ("pack_weight_float", (WEIGHT[0], False)),
    "pack no columns": ("pack_weight_float", (WEIGHT[:, :0], True)),
    "half": ("linear_float", (X.half(), WIDE, BIAS, 70, "none")),
    "a scalar": ("linear_float", (torch.tensor(1.0), WIDE, BIAS, 70, "none")),
    "no columns": ("linear_float", (X[..., :0], WIDE, BIAS, 70, "none")),
    "another K": ("linear_float", (X[..., :32], WIDE, BIAS, 70, "none")),
    "another K, pairs": ("linear_float", (X[..., :32], PAIRS, BIAS, 70, "none")),
    "another N": ("linear_float", (X, WIDE, BIAS, 129, "none")),
    "a negative N": ("linear_float", (X, WIDE, BIAS, -1, "none")),
    "unpacked": ("linear_float", (X, WEIGHT, BIAS, 70, "none")),
    "packed to double": ("linear_float", (X, WIDE.double(), BIAS, 70, "none")),
    "short bias": ("linear_float", (X, WIDE, BIAS[1:], 70, "none")),
    "bfloat16 bias": ("linear_float", (X.bfloat16(), PAIRS, BIAS.bfloat16(), 70, "none")),
    "another activation": ("linear_float", (X, WIDE, BIAS, 70, "relu")),
}


@pytest.mark.parametrize("through", ["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, through: str) -> None:
    name, args = BAD[case]
    assert_refuses(getattr(ops if through == "kernels" else floating, name), name, *args)
