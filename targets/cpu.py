"""cpu: stock PyTorch kernels only. Float and bfloat16 graphs run as they are; int uses torch._int_mm."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from operators.reference import rotated, safe_scale
from targets._fused import RowsLinear
from targets._hardware import cpu_name
from targets._linear import Activation, QuantizedLinear, Rows, TargetLinear
from targets._swap import swap_modules
from targets.base import Execution, Recipe, Target

SHORTEST = 4  # torch._int_mm returns wrong sums at K = 1 (torch 2.13): the operands are padded to this


@lru_cache(maxsize=1)
def int_mm_is_exact() -> bool:
    """Whether torch._int_mm adds without saturation on this CPU, tried at the extremes.

    Without VNNI its kernels add pairs of products in int16, and 2 · 255 · 127 does not fit.
    """
    signs = torch.tensor([1, 1, 1, -1], dtype=torch.int32)
    for m, k, n in ((1, 64, 33), (2, 64, 1), (17, 100, 64)):
        a = torch.full((m, k), 127, dtype=torch.int32)
        b = 127 * signs.repeat(n * k // 4 + 1)[: n * k].view(n, k)
        for left in (a, -a - 1):
            if not torch.equal(torch._int_mm(left.to(torch.int8), b.to(torch.int8).t()), left @ b.t()):
                return False
    return True


def int_mm(a: Tensor, weight: Tensor, exact: bool) -> Tensor:
    """int8 [M, K], int8 [N, K] → int32 [M, N], exact on every CPU; K >= SHORTEST; exact: int_mm_is_exact()"""
    if exact:
        return torch._int_mm(a, weight.t())
    return (a.to(torch.float64) @ weight.to(torch.float64).t()).to(torch.int32)


def quantize_rows(x: Tensor, activation: Activation) -> tuple[Tensor, Tensor, Tensor | None]:
    """x float32 [M, K] → q − 128 int8 [M, K], scale float32 [M, 1], zero point − 128 int32 [M, 1] (None: zeros)

    The reference's numbers, rounding for rounding, in as few passes over x as stock kernels allow.
    """
    x = rotated(x, activation.rotation)
    if activation.scale is not None:
        return _quantize_fixed(x, activation.symmetric, activation.scale, activation.zero_point - 128)
    if activation.symmetric:
        scale = safe_scale(x.abs().amax(1, keepdim=True), 127)
        level = (x * scale.reciprocal()).round_().nan_to_num_(0).clamp_(-127, 127)
        return level.to(torch.int8), scale, None
    low, high = x.amin(1, keepdim=True).clamp(max=0), x.amax(1, keepdim=True).clamp(min=0)
    scale = safe_scale(high - low, 255)
    zero = (-low * scale.reciprocal()).round().nan_to_num(0).clamp(0, 255) - 128
    level = (x * scale.reciprocal()).round_().nan_to_num_(0).add_(zero).clamp_(-128, 127)
    return level.to(torch.int8), scale, zero.to(torch.int32)


def _quantize_fixed(x: Tensor, symmetric: bool, fixed: float, zero: int) -> tuple[Tensor, Tensor, Tensor | None]:
    finite = x.abs().amax(1, keepdim=True).isfinite()
    scale = torch.where(finite, fixed, torch.nan).to(torch.float32)
    level = (x * scale.reciprocal()).round_().nan_to_num_(0).add_(zero).clamp_(-127 if symmetric else -128, 127)
    return level.to(torch.int8), scale, torch.full_like(scale, zero, dtype=torch.int32) if zero else None


class IntLinear(TargetLinear):
    """QuantizedLinear on stock kernels: quantize with tensor operations, torch._int_mm, scale."""

    weight: Tensor

    def __init__(self, source: QuantizedLinear) -> None:
        super().__init__(source)
        self.exact, self.padding = int_mm_is_exact(), max(SHORTEST - source.in_features, 0)
        self.register_buffer("weight", F.pad(source.weight, (0, self.padding)))

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., K] → float32 [..., N]"""
        rows = quantize_rows(x.reshape(-1, self.in_features), self.activation)
        return self.multiply(*rows).view(*x.shape[:-1], self.out_features)

    def multiply(self, q: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """What quantize_rows returns → float32 [M, N]"""
        if self.padding:
            q = F.pad(q, (0, self.padding))
        acc = int_mm(q, self.weight, self.exact)
        if zero is not None:
            acc = acc - zero * self.weight_sum
        y = (scale * self.scale).mul_(acc)  # in place: fresh memory costs more than the arithmetic
        if self.bias is not None:
            y.add_(self.bias)
        return y


class IntRowsLinear(IntLinear):
    """RowsLinear on stock kernels: rows [T, K] → float32 [T, N]"""

    def __init__(self, source: RowsLinear) -> None:
        super().__init__(source.linear)

    def forward(self, rows: Rows) -> Tensor:  # type: ignore[override]
        q, scale, zero = rows
        signed = q.bitwise_xor(128).view(torch.int8)  # flipping the top bit takes 128 away
        return self.multiply(signed, scale[:, None], (zero - 128)[:, None])


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """QuantizedLinear → IntLinear, RowsLinear → IntRowsLinear; a float graph stays as it is."""
    swap_modules(graph, {QuantizedLinear: IntLinear, RowsLinear: IntRowsLinear})


def execution(precision: str) -> Execution:
    isa = torch.backends.cpu.get_cpu_capability()
    reason = None
    if precision == "int" and not int_mm_is_exact():
        reason = "torch._int_mm saturates on this CPU; exact float64 products are used instead, which are slower"
    return Execution(executed="cpu", native=True, device=cpu_name(), isa=isa, reason=reason)


TARGET = Target(
    name="cpu",
    precisions=("fp", "bf16", "fp16", "int"),
    lower=lower,
    execution=execution,
    schemes=("dynamic", "static", "weight"),  # weight: WeightLinear as it is, PyTorch's float product
)
