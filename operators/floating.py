"""The float linear layer, with weights packed once as float32 or bfloat16: schemas, fakes and references.

With bfloat16 weights, x is rounded to bfloat16 as well (to nearest, ties to even); products and sums are float32
everywhere. The result has the dtype of x: it is rounded to bfloat16 once, at the end, if x is bfloat16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.schema import define
from operators.validate import PANEL, ceil_div, require

GELUS = {"gelu": "none", "gelu_tanh": "tanh"}  # activations, and what F.gelu calls their kind
ACTIVATIONS = ("none", *GELUS)
PAIR = 2  # consecutive k that one 32-bit lane of vdpbf16ps takes


def pack_weight_float(weight: Tensor, bf16: bool) -> Tensor:
    """weight float32 or bfloat16 [N, K] → float32 [ceil(N/64), K, 64], or bfloat16 [ceil(N/64), ceil(K/2), 64, 2],
    zero padded. Raises ValueError for another dtype or shape, or K = 0."""
    _check_weight(weight)
    n, k = weight.shape
    panels, group = ceil_div(n, PANEL), PAIR if bf16 else 1
    depth = ceil_div(k, group)
    padded = weight.new_zeros((panels * PANEL, depth * group), dtype=torch.bfloat16 if bf16 else torch.float32)
    padded[:n, :k] = weight
    packed = padded.view(panels, PANEL, depth, group).transpose(1, 2).contiguous()
    return packed if bf16 else packed.squeeze(3)


def unpack_weight_float(packed: Tensor, n: int, k: int) -> Tensor:
    """The inverse of pack_weight_float: → [n, k], of packed's dtype"""
    whole = packed if packed.dim() == 4 else packed.unsqueeze(3)
    return whole.transpose(1, 2).reshape(whole.shape[0] * PANEL, -1)[:n, :k]


def linear_float(x: Tensor, packed: Tensor, bias: Tensor | None, out_features: int, activation: str) -> Tensor:
    """x float32 or bfloat16 [..., K] → [..., N] of the same dtype: activation(x · weightᵀ + bias), summed in float64.

    packed: as pack_weight_float makes it; bias float32 [N] or None; out_features: N; activation: one of
    ACTIVATIONS, "gelu" being that by erf. Raises ValueError on a bad argument.
    """
    check_linear_float(x, packed, bias, out_features, activation)
    rows = x.to(packed.dtype).to(torch.float64)
    y = rows @ unpack_weight_float(packed, out_features, x.shape[-1]).to(torch.float64).t()
    return ended(y, bias, activation, x.dtype)


def ended(y: Tensor, bias: Tensor | None, activation: str, dtype: torch.dtype) -> Tensor:
    """y float64 or float32, sums → activation(y + bias), rounded to float32, then to `dtype`"""
    if bias is not None:
        y = y + bias
    if activation in GELUS:
        y = F.gelu(y, approximate=GELUS[activation])
    return y.to(torch.float32).to(dtype)


def check_linear_float(x: Tensor, packed: Tensor, bias: Tensor | None, out_features: int, activation: str) -> None:
    """Raises ValueError, one line, unless the arguments are as linear_float wants them."""
    op, n = "linear_float", out_features
    check_x(op, x)
    require(n >= 0, f"{op}: out_features must not be negative", n, "pass the rows of the weight")
    k, panels = x.shape[-1], ceil_div(n, PANEL)
    wide, pairs = [panels, k, PANEL], [panels, ceil_div(k, PAIR), PANEL, PAIR]
    wanted = f"{op}: packed must be float32 {wide} or bfloat16 {pairs} for K={k} and N={n}"
    have = packed.dtype, list(packed.shape)
    ok = have in ((torch.float32, wide), (torch.bfloat16, pairs))
    require(ok, wanted, described(packed), "use opswap::pack_weight_float")
    check_end(op, bias, n, activation)


def check_x(op: str, x: Tensor) -> None:
    """x: float32 or bfloat16 [..., K], K > 0."""
    ok = x.dtype in (torch.float32, torch.bfloat16) and x.dim() >= 1 and x.shape[-1] > 0
    require(ok, f"{op}: x must be float32 or bfloat16, [..., K], K > 0", described(x), "convert or reshape it")


def check_end(op: str, bias: Tensor | None, n: int, activation: str) -> None:
    """bias: float32 [n], or None; activation: one of ACTIVATIONS."""
    if bias is not None:
        ok = bias.dtype == torch.float32 and list(bias.shape) == [n]
        require(ok, f"{op}: bias must be float32 [{n}]", described(bias), "convert or fix it")
    known = " or ".join(ACTIVATIONS)
    require(activation in ACTIVATIONS, f"{op}: activation must be {known}", activation, "choose one")


def described(t: Tensor) -> str:
    """→ its dtype and shape, for an error's "got" """
    return f"{t.dtype} of shape {list(t.shape)}"


def _check_weight(weight: Tensor) -> None:
    ok = weight.dtype in (torch.float32, torch.bfloat16) and weight.dim() == 2 and weight.shape[1] > 0
    wanted = "pack_weight_float: weight must be float32 or bfloat16, [N, K], K > 0"
    require(ok, wanted, described(weight), "convert or reshape it")


def _fake_pack(weight: Tensor, bf16: bool) -> Tensor:
    _check_weight(weight)
    n, k = weight.shape
    if bf16:
        return weight.new_empty((ceil_div(n, PANEL), ceil_div(k, PAIR), PANEL, PAIR), dtype=torch.bfloat16)
    return weight.new_empty((ceil_div(n, PANEL), k, PANEL), dtype=torch.float32)


def _fake_linear(x: Tensor, packed: Tensor, bias: Tensor | None, out_features: int, activation: str) -> Tensor:
    check_linear_float(x, packed, bias, out_features, activation)
    return x.new_empty((*x.shape[:-1], out_features))


define("pack_weight_float", "(Tensor weight, bool bf16) -> Tensor", pack_weight_float, _fake_pack)
define(
    "linear_float",
    "(Tensor x, Tensor packed, Tensor? bias, int out_features, str activation) -> Tensor",
    linear_float,
    _fake_linear,
)
