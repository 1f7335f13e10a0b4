"""torch.ops.opswap: every operator's schema, its fake (shapes and dtypes only), and the reference as its default.

The reference is registered under CompositeExplicitAutograd, so it serves every device; the compiled library
registers under CPU, which comes first there. The operators are for inference: they define no gradient.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from operators import reference, validate
from operators.validate import GROUP, PANEL, ceil_div

# how rows of floats become bytes: reference.quantize_per_token says it; fixed_scale 0 is "per token"
LEVELS = "bool symmetric, float fixed_scale=0.0, int fixed_zero=128, int rotation=0"
OPERATORS = {
    "quantize_per_token": f"(Tensor x, {LEVELS}) -> (Tensor q, Tensor scale, Tensor zero_point)",
    "pack_weight": "(Tensor weight) -> Tensor",
    "int8_matmul": "(Tensor q, Tensor zero_point, Tensor packed, Tensor weight_sum) -> Tensor",
    "linear_int8": "(Tensor x, Tensor packed, Tensor weight_sum, Tensor weight_scale, Tensor? bias, "
    f"{LEVELS}) -> Tensor",
}


def empty_rows(x: Tensor, m: int | torch.SymInt, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """→ what quantize_per_token returns for M = m, on x's device, not filled in"""
    q = x.new_empty((m, k), dtype=torch.uint8)
    return q, x.new_empty((m,), dtype=torch.float32), x.new_empty((m,), dtype=torch.int32)


def _fake_quantize_per_token(
    x: Tensor, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    validate.check_activation("quantize_per_token", x)
    validate.check_levels("quantize_per_token", symmetric, fixed_scale, fixed_zero, rotation)
    return empty_rows(x, math.prod(x.shape[:-1]), x.shape[-1])


def _fake_pack_weight(weight: Tensor) -> Tensor:
    validate.check_weight("pack_weight", weight)
    n, k = weight.shape
    return weight.new_empty((ceil_div(n, PANEL), ceil_div(k, GROUP), PANEL, GROUP))


def _fake_int8_matmul(q: Tensor, zero_point: Tensor, packed: Tensor, weight_sum: Tensor) -> Tensor:
    validate.check_matmul("int8_matmul", q, zero_point, packed, weight_sum)
    return q.new_empty((q.shape[0], weight_sum.shape[0]), dtype=torch.int32)


def _fake_linear_int8(x: Tensor, packed: Tensor, weight_sum: Tensor, weight_scale: Tensor, bias: Tensor | None,
                      symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128,
                      rotation: int = 0) -> Tensor:  # fmt: skip
    validate.check_linear("linear_int8", x, packed, weight_sum, weight_scale, bias)
    validate.check_levels("linear_int8", symmetric, fixed_scale, fixed_zero, rotation)
    return x.new_empty((*x.shape[:-1], weight_sum.shape[0]))


_FAKES: dict[str, Callable] = {
    "quantize_per_token": _fake_quantize_per_token,
    "pack_weight": _fake_pack_weight,
    "int8_matmul": _fake_int8_matmul,
    "linear_int8": _fake_linear_int8,
}

LIBRARY = torch.library.Library("opswap", "DEF")  # the module keeps it alive: its end would remove the operators


def define(name: str, signature: str, implementation: Callable, fake: Callable) -> None:
    """Makes torch.ops.opswap.<name>, served by `implementation` on every device that has nothing of its own."""
    LIBRARY.define(name + signature, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"opswap::{name}", fake, lib=LIBRARY)
    OPERATORS[name] = signature


for _name, _signature in list(OPERATORS.items()):
    define(_name, _signature, getattr(reference, _name), _FAKES[_name])
