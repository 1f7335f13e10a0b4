"""Every operator refuses what it cannot do in one line, compiled and in Python."""

from functools import partial

import pytest
import torch

from operators import attention, embedding, fused, gate, gaudi, reference, terms
from operators.validate import MAX_K, MAX_K_128
from tests.checks import assert_refuses
from tests.operators.arguments import (
    CODES,
    EMPTY,
    FIXED,
    IDS,
    LAYER,
    NORM,
    QKV,
    RESIDUAL,
    ROWS,
    SMOOTH,
    STARTS,
    TABLE,
    WEIGHT,
    ZERO,
    Q,
    X,
)
from tests.operators.samples import linear, ops

BAD: dict[str, tuple[str, tuple]] = {
    "quantize a double": ("quantize_per_token", (X.double(), True)),
    "quantize a scalar": ("quantize_per_token", (torch.tensor(1.0), True)),
    "quantize no columns": ("quantize_per_token", (torch.zeros(3, 0), True)),
    "quantize too long": ("quantize_per_token", (torch.zeros(1, MAX_K + 1), True)),
    "quantize by a scale below 0": ("quantize_per_token", (X, True, -0.1, 128)),
    "quantize by a scale that is NaN": ("quantize_per_token", (X, True, torch.nan, 128)),
    "quantize by a scale that underflows": ("quantize_per_token", (X, True, 1e-39, 128)),
    "quantize by a scale that overflows": ("quantize_per_token", (X, True, 1e39, 128)),
    "quantize, symmetric from 0": ("quantize_per_token", (X, True, 0.1, 0)),
    "linear, zero point of 256": ("linear_int8", (X, *LAYER.args(), False, 0.1, 256)),
    "linear and gelu, zero point of -1": ("linear_int8_gelu", (*ROWS, *LAYER.args(), False, 0.1, -1)),
    "linear and norm, infinite scale": (
        "linear_int8_add_norm",
        (*ROWS, *LAYER.args(), RESIDUAL, *NORM, True, False, torch.inf, 3),
    ),
    "embeddings, scale below 0": ("embed_norm", (IDS, TABLE, IDS, TABLE, None, None, *NORM, True, True, -1.0)),
    "attention, zero point of 256": ("attention_int8", (QKV, STARTS, None, 2, 0.5, False, 0.1, 256)),
    "pack floats": ("pack_weight", (WEIGHT.float(),)),
    "pack 1 dimension": ("pack_weight", (WEIGHT[0],)),
    "pack -128 too long": ("pack_weight", (torch.full((1, MAX_K_128 + 1), -128, dtype=torch.int8),)),
    "pack too long": ("pack_weight", (torch.zeros(1, MAX_K + 1, dtype=torch.int8),)),
    "matmul of int8": ("int8_matmul", (Q.to(torch.int8), ZERO, LAYER.packed, LAYER.weight_sum)),
    "matmul, 3 dimensions": ("int8_matmul", (Q[None], ZERO, LAYER.packed, LAYER.weight_sum)),
    "matmul, zero points missing": ("int8_matmul", (Q, ZERO[:-1], LAYER.packed, LAYER.weight_sum)),
    "matmul, long zero points": ("int8_matmul", (Q, ZERO.long(), LAYER.packed, LAYER.weight_sum)),
    "matmul of another K": ("int8_matmul", (Q[:, :-2], ZERO, LAYER.packed, LAYER.weight_sum)),
    "matmul of another N": ("int8_matmul", (Q, ZERO, LAYER.packed, LAYER.weight_sum[:5])),
    "linear of half": ("linear_int8", (X.half(), *LAYER.args(), True)),
    "linear, unpacked": ("linear_int8", (X, WEIGHT, *LAYER.args()[1:], True)),
    "linear, sums of 0 dimensions": (
        "linear_int8",
        (X, LAYER.packed, LAYER.weight_sum[0], *LAYER.args()[2:], True),
    ),
    "linear, scales missing": ("linear_int8", (X, *LAYER.args()[:2], LAYER.weight_scale[1:], None, True)),
    "linear, double scales": ("linear_int8", (X, *LAYER.args()[:2], LAYER.weight_scale.double(), None, True)),
    "linear, short bias": ("linear_int8", (X, *LAYER.args()[:3], torch.zeros(69), True)),
    "linear too long": ("linear_int8", (torch.zeros(1, MAX_K + 1), *LAYER.args(), True)),
    "rows of int8": ("linear_int8_rows", (Q.char(), *ROWS[1:], *LAYER.args())),
    "rows, scales missing": ("linear_int8_gelu", (Q, ROWS[1][:-1], ZERO, *LAYER.args(), True)),
    "rows of another K": ("linear_int8_gelu", (Q[:, :-2], *ROWS[1:], *LAYER.args(), True)),
    "residual of other rows": (
        "linear_int8_add_norm",
        (*ROWS, *LAYER.args(), RESIDUAL[:-1], *NORM, True, True),
    ),
    "residual of other columns": (
        "linear_int8_add_norm",
        (*ROWS, *LAYER.args(), RESIDUAL[:, :-1], *NORM, True, True),
    ),
    "one table without ids": ("embed_norm", (IDS, TABLE, IDS, TABLE, None, TABLE, *NORM, True, True)),
    "a second table without ids": ("embed_norm", (IDS, TABLE, None, TABLE, None, None, *NORM, True, True)),
    "gelu of integers": ("gelu", (IDS,)),
    "gelu of a number": ("gelu", (torch.tensor(1.0),)),
    "tables of two widths": ("embed_norm", (IDS, TABLE, IDS, TABLE[:, 1:], None, None, *NORM, True, True)),
    "ids of two lengths": ("embed_norm", (IDS, TABLE, IDS[1:], TABLE, None, None, *NORM, True, True)),
    "linear and gelu of no columns": ("linear_int8_gelu", (*ROWS, *EMPTY.args(), True)),
    "linear and norm of no columns": (
        "linear_int8_add_norm",
        (*ROWS, *EMPTY.args(), RESIDUAL[:, :0], NORM[0][:0], NORM[1][:0], 1e-5, False, True),
    ),
    "linear and gate, another activation": ("linear_int8_gate", (*ROWS, *LAYER.args(), "relu", False, True)),
    "linear and gate, zero point of 256": ("linear_int8_gate", (*ROWS, *LAYER.args(), "silu", False, False, 0.1, 256)),
    "linear and gate, rows of another K": (
        "linear_int8_gate",
        (Q[:, :-2], *ROWS[1:], *LAYER.args(), "silu", True, True),
    ),
    "linear and gate of no columns": ("linear_int8_gate", (*ROWS, *EMPTY.args(), "silu", False, True)),
    "linear and gate of 7 columns": ("linear_int8_gate", (*ROWS, *linear(7, 33).args(), "silu", False, True)),
    "gate of 69 columns": ("gate", (RESIDUAL[:, :69], "silu", False)),
    "gate of no columns": ("gate", (RESIDUAL[:, :0], "silu", False)),
    "gate of no dimensions": ("gate", (RESIDUAL[0, 0], "silu", False)),
    "gate of a double": ("gate", (RESIDUAL.double(), "silu", False)),
    "gate of nothing": ("gate", (RESIDUAL, "none", False)),
    "gate to rows of 69 columns": ("gate_rows", (RESIDUAL[:, :69], "silu", False, True)),
    "gate to rows, bfloat16": ("gate_rows", (RESIDUAL.bfloat16(), "silu", False, True)),
    "gate to rows, 3 dimensions": ("gate_rows", (RESIDUAL[None], "silu", False, True)),
    "gate to rows too long": ("gate_rows", (torch.zeros(1, 2 * MAX_K + 2), "silu", False, True)),
    "gate to rows, zero point of 256": ("gate_rows", (RESIDUAL, "silu", False, False, 0.1, 256)),
    "gelu of a double": ("gelu_rows", (RESIDUAL.double(), True)),
    "norm, short gamma": ("norm_rows", (RESIDUAL, NORM[0][1:], *NORM[1:], True, True)),
    "norm, smoothed by a scale alone": ("norm_rows", (RESIDUAL, *NORM, True, *FIXED, SMOOTH[0])),
    "norm, smoothed by a shift alone": (
        "embed_norm",
        (IDS, TABLE, IDS, TABLE, None, None, *NORM, True, *FIXED, None, SMOOTH[1]),
    ),
    "norm, smoothed by too few": ("norm_rows", (RESIDUAL, *NORM, True, *FIXED, SMOOTH[0], SMOOTH[1][1:])),
    "linear and norm, smoothed by doubles": (
        "linear_int8_add_norm",
        (*ROWS, *LAYER.args(), RESIDUAL, *NORM, True, *FIXED, SMOOTH[0].double(), SMOOTH[1]),
    ),
    "rounding error of a double": ("rounding_error", (X.double(), True)),
    "rounding error, zero point of 256": ("rounding_error", (X, False, 0.1, 256)),
    "cast of a double": ("fp8_cast", (X.double(),)),
    "cast, rounded at random": ("fp8_cast", (X, None, True)),
    "cast by a scale that does not fit": ("fp8_cast", (X, torch.rand(4, 1))),
    "cast by a double": ("fp8_cast", (X, torch.tensor(1.0).double())),
    "cast to E5M2": ("fp8_cast", (X, None, False, False, torch.float8_e5m2)),
    "cast for another chip": ("fp8_cast", (X, None, False, False, None, "gaudi1")),
    "cast with a bias that Gaudi2 lacks": ("fp8_cast", (X, None, False, False, None, "gaudi2", 8)),
    "product of int8": ("fp8_gemm", (Q, False, CODES.view(torch.int8), True, None, torch.float32)),
    "product in half": ("fp8_gemm", (Q, False, CODES, True, None, torch.float16)),
    "product of two K": ("fp8_gemm", (Q, False, CODES[:, 1:], True, None, torch.float32)),
    "product, not transposed": ("fp8_gemm", (Q, False, CODES, False, None, torch.float32)),
    "product, short scales": ("fp8_gemm", (Q, False, CODES, True, None, torch.float32, torch.rand(4, 1))),
    "product, short bias": ("fp8_gemm", (Q, False, CODES, True, None, torch.float32, None, None, torch.rand(6))),
    "product onto nothing": ("fp8_gemm", (Q, False, CODES, True, None, torch.float32, None, None, None, True)),
    "product too long": (
        "fp8_gemm",
        (Q[:1, :1].expand(1, 2**17 + 1), False, Q[:1, :1].expand(1, 2**17 + 1), True, None, torch.float32),
    ),
    "norm of a double": ("norm_rows", (RESIDUAL.double(), *NORM, True, True)),
}


@pytest.mark.parametrize("operator", [ops.norm_rows, fused.norm_rows], ids=["kernels", "reference"])
@pytest.mark.parametrize("residual", [RESIDUAL[1:], RESIDUAL.double()], ids=["short", "double"])
def test_a_norm_refuses_a_residual(operator, residual) -> None:
    assert_refuses(partial(operator, residual=residual), "norm_rows", RESIDUAL, *NORM, True, *FIXED)


@pytest.mark.parametrize("through", ["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, through: str) -> None:
    name, args = BAD[case]
    modules = (reference, fused, gate, embedding, attention, terms, gaudi)
    python = next(module for module in modules if hasattr(module, name))
    assert_refuses(getattr(ops if through == "kernels" else python, name), name, *args)
