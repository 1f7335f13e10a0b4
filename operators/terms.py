"""What the bytes of an activation leave of it: the second term of a number that is the sum of two of 8 bits."""

import torch
from torch import Tensor

from operators import reference, validate
from operators.schema import LEVELS, define


def rounding_error(
    x: Tensor, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0
) -> Tensor:
    """x float32 [..., K] → x − (q − zero_point) * scale, of the q that quantize_per_token makes of x, with a
    rotation of what it rotated: rotated(x, rotation) − ...; of x's shape

    A row that holds NaN or infinity gives NaN. Raises ValueError as quantize_per_token does.
    """
    _check(x, symmetric, fixed_scale, fixed_zero, rotation)
    # the compiled one where there is one: the bytes are the same
    q, scale, zero_point = torch.ops.opswap.quantize_per_token(x, symmetric, fixed_scale, fixed_zero, rotation)
    near = q.to(torch.float32).sub_(zero_point[:, None]).mul_(scale[:, None])
    return reference.rotated(x, rotation) - near.view(x.shape)


def _check(x: Tensor, symmetric: bool, fixed_scale: float, fixed_zero: int, rotation: int) -> None:
    validate.check_activation("rounding_error", x)
    validate.check_levels("rounding_error", symmetric, fixed_scale, fixed_zero, rotation)


def _fake(x: Tensor, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0) -> Tensor:
    _check(x, symmetric, fixed_scale, fixed_zero, rotation)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


define("rounding_error", f"(Tensor x, {LEVELS}) -> Tensor", rounding_error, _fake)
