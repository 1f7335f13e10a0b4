"""The int8 linear layer together with what follows it in a transformer: schema, fake and reference.

`rows` are (q uint8 [M, K], scale float32 [M], zero_point int32 [M]), as quantize_per_token gives them; `levels`
(symmetric, fixed_scale, fixed_zero, rotation) is what it takes after x. The compiled operators give the same bits for
every instruction set and thread count; their floats differ from the reference's by rounding (GELU: by less than
4.3e-5), so that a q on the edge between two levels may differ by one. by_tanh: the GELU is 0.5·x·(1 + tanh(√(2/π)·(x +
0.044715·x³))), not the one by erf, x·Φ(x).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import reference, validate
from operators.schema import LEVELS, define, empty_rows

Rows = tuple[Tensor, Tensor, Tensor]
Normed = tuple[Tensor, Tensor, Tensor, Tensor]
Levels = tuple[bool, float, int, int]
Smooth = tuple[Tensor, Tensor]
Ways = tuple[Levels, Smooth | None, bool, bool]


class Product(NamedTuple):
    """rows [M, K] times a weight [N, K]: the arguments that every operator on a linear layer begins with.

    packed int8 [ceil(N/64), ceil(K/4), 64, 4]; weight_sum int32 [N]; weight_scale and bias float32 [N].
    """

    q: Tensor
    scale: Tensor
    zero_point: Tensor
    packed: Tensor
    weight_sum: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def check(self, op: str) -> "Product":
        """→ itself. Raises ValueError where the parts do not fit each other."""
        validate.check_rows(op, self.q, self.scale, self.zero_point)
        weights = (self.packed, self.weight_sum, self.weight_scale, self.bias)
        validate.check_weights(op, *weights, self.q.shape[1])
        return self

    def size(self) -> tuple[int, int]:
        """→ M, N"""
        return self.q.shape[0], self.weight_sum.shape[0]

    def floats(self) -> Tensor:
        """→ float32 [M, N]: multiply, scale, add bias (if any)"""
        acc = reference.int8_matmul(self.q, self.zero_point, self.packed, self.weight_sum)
        return reference.scaled(acc, self.scale, self.weight_scale, self.bias)


PARTS = len(Product._fields)


def linear_int8_rows(*product: Any) -> Tensor:
    """rows [M, K], weight → float32 [M, N]. Raises ValueError."""
    return Product(*product).check("linear_int8_rows").floats()


def linear_int8_gelu(*args: Any) -> Rows:
    """rows [M, K], weight; levels, by_tanh → rows [M, N] of GELU(linear). Raises ValueError."""
    product, levels, approximate = _check_gelu(*args)
    return reference.quantize_per_token(F.gelu(product.floats(), approximate=approximate), *levels)


def linear_int8_add_norm(*args: Any) -> Normed:
    """rows [M, K], weight; residual float32 [M, N]; gamma, beta, eps, quantize, ways as norm_rows takes them
    → norm_rows(linear + residual). Raises ValueError."""
    residual, norm = _check_add_norm(*args)
    return norm_rows(Product(*args[:PARTS]).floats() + residual, *norm)


def gelu_rows(x: Tensor, *levels: Any) -> Rows:
    """x float32 [M, N]; levels, by_tanh → rows of GELU(x): what linear_int8_gelu does to its product. Raises
    ValueError."""
    validate.check_matrix("gelu_rows", x)
    checked, approximate = _check_made("gelu_rows", *levels)
    return reference.quantize_per_token(F.gelu(x, approximate=approximate), *checked)


def norm_rows(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, quantize: bool, *ways: Any, residual: Tensor | None = None
) -> Normed:
    """x, residual float32 [M, N]; ways: levels, then smooth_scale and smooth_shift float32 [N] or None, then keeps_sum
    and rms → y = LayerNorm(x), or LayerNorm(x + residual), and the rows of y, or of y · smooth_scale + smooth_shift (of
    0 rows without `quantize`). keeps_sum: x, or x + residual, in the place of y. rms: RMSNorm, x / √(mean of x² + eps)
    · gamma + beta, in the place of LayerNorm. Raises ValueError."""
    levels, smooth, keeps_sum, rms = _check_norm_rows(x, gamma, beta, quantize, residual, *ways)
    total = x if residual is None else x + residual
    y = normalized(total, gamma, beta, eps, rms)
    rows = y if quantize else y[:0]
    made = reference.quantize_per_token(torch.addcmul(smooth[1], rows, smooth[0]) if smooth else rows, *levels)
    return total.clone() if keeps_sum else y, *made


def normalized(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, rms: bool) -> Tensor:
    """→ LayerNorm of x [..., N], or where `rms` its RMSNorm, with gamma and beta [N]"""
    if rms:
        return torch.addcmul(beta, F.rms_norm(x, gamma.shape, None, eps), gamma)
    return F.layer_norm(x, gamma.shape, gamma, beta, eps)


def check_norm(op: str, x: Tensor, name: str, rows: int, columns: int, gamma: Tensor, beta: Tensor, quantize: bool,
               symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0,
               smooth_scale: Tensor | None = None, smooth_shift: Tensor | None = None,
               keeps_sum: bool = False, rms: bool = False) -> Ways:  # fmt: skip
    """→ levels, the smooth_scale and smooth_shift there are, keeps_sum, rms. Raises ValueError; x as
    validate.check_norm has it."""
    validate.check_norm(op, x, name, rows, columns, gamma, beta)
    validate.check_levels(op, symmetric, fixed_scale, fixed_zero, rotation)
    smooth = validate.check_smooth(op, smooth_scale, smooth_shift, columns)
    todo = "add the residual without a norm"
    validate.require(quantize or not keeps_sum, f"{op}: keeps_sum must come with quantize", "keeps_sum alone", todo)
    return (symmetric, fixed_scale, fixed_zero, rotation), smooth, keeps_sum, rms


def _check_norm_rows(
    x: Tensor, gamma: Tensor, beta: Tensor, quantize: bool, residual: Tensor | None, *ways: Any
) -> Ways:
    if residual is not None:
        validate.check_norm("norm_rows", residual, "residual", x.shape[0], x.shape[-1], gamma, beta)
    return check_norm("norm_rows", x, "x", x.shape[0], x.shape[-1], gamma, beta, quantize, *ways)


def _check_made(
    op: str, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0, by_tanh: bool = False
) -> tuple[Levels, str]:
    """→ levels, and what F.gelu calls its kind"""
    validate.check_levels(op, symmetric, fixed_scale, fixed_zero, rotation)
    return (symmetric, fixed_scale, fixed_zero, rotation), "tanh" if by_tanh else "none"


def _check_gelu(*args: Any) -> tuple[Product, Levels, str]:
    levels, approximate = _check_made("linear_int8_gelu", *args[PARTS:])
    product = Product(*args[:PARTS]).check("linear_int8_gelu")
    validate.check_depth("linear_int8_gelu", product.size()[1])  # they become rows
    return product, levels, approximate


def _check_add_norm(*args: Any) -> tuple[Tensor, tuple[Any, ...]]:
    """→ residual, and what norm_rows takes after x"""
    product, residual, norm = Product(*args[:PARTS]), args[PARTS], args[PARTS + 1 :]
    product.check("linear_int8_add_norm")
    check_norm("linear_int8_add_norm", residual, "residual", *product.size(), *norm[:2], *norm[3:])
    return residual, norm


def _fake_rows(*product: Any) -> Tensor:
    whole = Product(*product).check("linear_int8_rows")
    return whole.q.new_empty(whole.size(), dtype=torch.float32)


def _fake_gelu(*args: Any) -> Rows:
    product, _, _ = _check_gelu(*args)
    return empty_rows(product.q, *product.size())


def _fake_add_norm(*args: Any) -> Normed:
    residual, norm = _check_add_norm(*args)
    m, n = residual.shape
    return torch.empty_like(residual), *empty_rows(residual, m if norm[3] else 0, n)


def _fake_gelu_rows(x: Tensor, *levels: Any) -> Rows:
    validate.check_matrix("gelu_rows", x)
    _check_made("gelu_rows", *levels)
    return empty_rows(x, *x.shape)


def _fake_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, quantize: bool, *ways: Any, residual: Tensor | None = None
) -> Normed:
    _check_norm_rows(x, gamma, beta, quantize, residual, *ways)
    return torch.empty_like(x), *empty_rows(x, x.shape[0] if quantize else 0, x.shape[1])


PRODUCT = (
    "Tensor q, Tensor scale, Tensor zero_point, Tensor packed, Tensor weight_sum, Tensor weight_scale, Tensor? bias"
)
SMOOTH = "Tensor? smooth_scale=None, Tensor? smooth_shift=None"
NORM = f"Tensor gamma, Tensor beta, float eps, bool quantize, {LEVELS}, {SMOOTH}, bool keeps_sum=False, bool rms=False"
MADE = f"{LEVELS}, bool by_tanh=False"
ROWS, NORMED = "(Tensor, Tensor, Tensor)", "(Tensor, Tensor, Tensor, Tensor)"

define("linear_int8_rows", f"({PRODUCT}) -> Tensor", linear_int8_rows, _fake_rows)
define("linear_int8_gelu", f"({PRODUCT}, {MADE}) -> {ROWS}", linear_int8_gelu, _fake_gelu)
define(
    "linear_int8_add_norm",
    f"({PRODUCT}, Tensor residual, {NORM}) -> {NORMED}",
    linear_int8_add_norm,
    _fake_add_norm,
)
define("gelu_rows", f"(Tensor x, {MADE}) -> {ROWS}", gelu_rows, _fake_gelu_rows)
define("norm_rows", f"(Tensor x, {NORM}, *, Tensor? residual=None) -> {NORMED}", norm_rows, _fake_norm)
