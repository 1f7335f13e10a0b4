"""The linear layer with int8 weights and float activations, for shapes where reading the weights takes the time.

    y[m,n] = (sum_k x[m,k] * q[n,k]) * s[n] + bias[n]

Products and sums are float32 everywhere, whatever the dtype of x; y has that dtype, rounded once.
"""

import torch
from torch import Tensor

from operators.floating import check_end, check_x, described, ended
from operators.schema import define
from operators.validate import PANEL, ceil_div, require


def pack_weight_w8(weight: Tensor) -> Tensor:
    """weight int8 [N, K] → int8 [ceil(N/64), K, 64], zero padded. Raises ValueError for another dtype or shape, or
    K = 0."""
    _check_weight(weight)
    n, k = weight.shape
    padded = weight.new_zeros((ceil_div(n, PANEL) * PANEL, k))
    padded[:n] = weight
    return padded.view(-1, PANEL, k).transpose(1, 2).contiguous()


def unpack_weight_w8(packed: Tensor, n: int) -> Tensor:
    """The inverse of pack_weight_w8: → int8 [n, K]"""
    return packed.transpose(1, 2).reshape(-1, packed.shape[1])[:n]


def linear_w8(x: Tensor, packed: Tensor, weight_scale: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """x float32 or bfloat16 [..., K] → [..., N] of the same dtype, summed in float64.

    packed: as pack_weight_w8 makes it; weight_scale and bias (or None) float32 [N]; activation: one of
    floating.ACTIVATIONS. Raises ValueError on a bad argument.
    """
    check_linear_w8(x, packed, weight_scale, bias, activation)
    y = x.double() @ unpack_weight_w8(packed, weight_scale.shape[0]).double().t() * weight_scale
    return ended(y, bias, activation, x.dtype)


def check_linear_w8(x: Tensor, packed: Tensor, weight_scale: Tensor, bias: Tensor | None, activation: str) -> None:
    """Raises ValueError, one line, unless the arguments are as linear_w8 wants them."""
    op = "linear_w8"
    check_x(op, x)
    ok = weight_scale.dtype == torch.float32 and weight_scale.dim() == 1
    require(ok, f"{op}: weight_scale must be float32 [N]", described(weight_scale), "convert or reshape it")
    n, k = weight_scale.shape[0], x.shape[-1]
    shape = [ceil_div(n, PANEL), k, PANEL]
    ok = packed.dtype == torch.int8 and list(packed.shape) == shape
    require(
        ok, f"{op}: packed must be int8 {shape} for K={k} and N={n}", described(packed), "use opswap::pack_weight_w8"
    )
    check_end(op, bias, n, activation)


def _check_weight(weight: Tensor) -> None:
    ok = weight.dtype == torch.int8 and weight.dim() == 2 and weight.shape[1] > 0
    require(ok, "pack_weight_w8: weight must be int8, [N, K], K > 0", described(weight), "use quantize_weight")


def _fake_pack(weight: Tensor) -> Tensor:
    _check_weight(weight)
    n, k = weight.shape
    return weight.new_empty((ceil_div(n, PANEL), k, PANEL))


def _fake_linear(x: Tensor, packed: Tensor, weight_scale: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    check_linear_w8(x, packed, weight_scale, bias, activation)
    return x.new_empty((*x.shape[:-1], weight_scale.shape[0]))


define("pack_weight_w8", "(Tensor weight) -> Tensor", pack_weight_w8, _fake_pack)
define(
    "linear_w8",
    "(Tensor x, Tensor packed, Tensor weight_scale, Tensor? bias, str activation) -> Tensor",
    linear_w8,
    _fake_linear,
)
