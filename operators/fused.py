"""The int8 linear layer together with what follows it in a transformer: schema, fake and reference.

`rows` are (q uint8 [M, K], scale float32 [M], zero_point int32 [M]), as quantize_per_token gives them. The
compiled operators give the same bits for every instruction set and thread count; their floats differ from the
reference's by rounding (GELU: by less than 4.3e-5), so that a q on the edge between two levels may differ by one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import reference, validate
from operators.schema import define

Rows = tuple[Tensor, Tensor, Tensor]
Normed = tuple[Tensor, Tensor, Tensor, Tensor]

LINEAR = (
    "Tensor q, Tensor scale, Tensor zero_point, Tensor packed, Tensor weight_sum, Tensor weight_scale, Tensor? bias"
)


def linear_int8_rows(
    q: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    packed: Tensor,
    weight_sum: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    bf16: bool,
) -> Tensor:
    """rows [M, K] → [M, N], float32 or (bf16) bfloat16: multiply, scale, add bias (if any). Raises ValueError."""
    _check("linear_int8_rows", q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    y = _linear(q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    return y.to(torch.bfloat16) if bf16 else y


def linear_int8_gelu(
    q: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    packed: Tensor,
    weight_sum: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    symmetric: bool,
) -> Rows:
    """rows [M, K] → rows [M, N] of GELU(linear), the exact one: x·Φ(x). Raises ValueError."""
    _check("linear_int8_gelu", q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    y = _linear(q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    return reference.quantize_per_token(F.gelu(y), symmetric)


def linear_int8_add_norm(
    q: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    packed: Tensor,
    weight_sum: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    residual: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    quantize: bool,
    symmetric: bool,
) -> Normed:
    """rows [M, K] → y float32 [M, N] = LayerNorm(linear + residual), and y's rows (of 0 rows without `quantize`)."""
    _check("linear_int8_add_norm", q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    validate.check_norm("linear_int8_add_norm", residual, "residual", q.shape[0], weight_sum.shape[0], gamma, beta)
    y = _linear(q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    return norm_rows(y + residual, gamma, beta, eps, quantize, symmetric)


def gelu_rows(x: Tensor, symmetric: bool) -> Rows:
    """x float32 [M, N] → rows of GELU(x): what linear_int8_gelu does to its product. Raises ValueError."""
    validate.check_matrix("gelu_rows", x)
    return reference.quantize_per_token(F.gelu(x), symmetric)


def norm_rows(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, quantize: bool, symmetric: bool) -> Normed:
    """x float32 [M, N] → y = LayerNorm(x), and y's rows (of 0 rows without `quantize`). Raises ValueError."""
    validate.check_norm("norm_rows", x, "x", x.shape[0], x.shape[-1], gamma, beta)
    y = F.layer_norm(x, gamma.shape, gamma, beta, eps)
    return y, *reference.quantize_per_token(y if quantize else y[:0], symmetric)


def _linear(
    q: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    packed: Tensor,
    weight_sum: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    acc = reference.int8_matmul(q, zero_point, packed, weight_sum)
    y = acc.to(torch.float32) * (scale[:, None] * weight_scale)
    return y if bias is None else y + bias


def _check(
    op: str,
    q: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    packed: Tensor,
    weight_sum: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
) -> None:
    validate.check_rows(op, q, scale, zero_point)
    validate.check_weights(op, packed, weight_sum, weight_scale, bias, q.shape[1])


def _empty_rows(x: Tensor, m: int | torch.SymInt, n: int) -> Rows:
    return (
        x.new_empty((m, n), dtype=torch.uint8),
        x.new_empty((m,), dtype=torch.float32),
        x.new_empty((m,), dtype=torch.int32),
    )


def _fake_rows(q: Tensor, scale: Tensor, zero_point: Tensor, packed: Tensor, weight_sum: Tensor, weight_scale: Tensor,
               bias: Tensor | None, bf16: bool) -> Tensor:  # fmt: skip
    _check("linear_int8_rows", q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    return q.new_empty((q.shape[0], weight_sum.shape[0]), dtype=torch.bfloat16 if bf16 else torch.float32)


def _fake_gelu(q: Tensor, scale: Tensor, zero_point: Tensor, packed: Tensor, weight_sum: Tensor, weight_scale: Tensor,
               bias: Tensor | None, symmetric: bool) -> Rows:  # fmt: skip
    _check("linear_int8_gelu", q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    return _empty_rows(q, q.shape[0], weight_sum.shape[0])


def _fake_add_norm(q: Tensor, scale: Tensor, zero_point: Tensor, packed: Tensor, weight_sum: Tensor,
                   weight_scale: Tensor, bias: Tensor | None, residual: Tensor, gamma: Tensor, beta: Tensor,
                   eps: float, quantize: bool, symmetric: bool) -> Normed:  # fmt: skip
    _check("linear_int8_add_norm", q, scale, zero_point, packed, weight_sum, weight_scale, bias)
    validate.check_norm("linear_int8_add_norm", residual, "residual", q.shape[0], weight_sum.shape[0], gamma, beta)
    return torch.empty_like(residual), *_empty_rows(q, q.shape[0] if quantize else 0, weight_sum.shape[0])


def _fake_gelu_rows(x: Tensor, symmetric: bool) -> Rows:
    validate.check_matrix("gelu_rows", x)
    return _empty_rows(x, x.shape[0], x.shape[1])


def _fake_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, quantize: bool, symmetric: bool) -> Normed:
    validate.check_norm("norm_rows", x, "x", x.shape[0], x.shape[-1], gamma, beta)
    return torch.empty_like(x), *_empty_rows(x, x.shape[0] if quantize else 0, x.shape[1])


NORM = "Tensor gamma, Tensor beta, float eps, bool quantize, bool symmetric"
ROWS, NORMED = "(Tensor, Tensor, Tensor)", "(Tensor, Tensor, Tensor, Tensor)"

define("linear_int8_rows", f"({LINEAR}, bool bf16) -> Tensor", linear_int8_rows, _fake_rows)
define("linear_int8_gelu", f"({LINEAR}, bool symmetric) -> {ROWS}", linear_int8_gelu, _fake_gelu)
define("linear_int8_add_norm", f"({LINEAR}, Tensor residual, {NORM}) -> {NORMED}", linear_int8_add_norm, _fake_add_norm)
define("gelu_rows", f"(Tensor x, bool symmetric) -> {ROWS}", gelu_rows, _fake_gelu_rows)
define("norm_rows", f"(Tensor x, {NORM}) -> {NORMED}", norm_rows, _fake_norm)
