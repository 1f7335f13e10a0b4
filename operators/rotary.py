"""Heads turned by the position of their token: torch.ops.opswap.rotary.

    y = h · cos + half(h) · sin        for each of the first heads h of a row

half(h) is (-h2, h1) of the halves h1 and h2 of h, as most checkpoints have it, or, interleaved, (-h[1], h[0], -h[3],
h[2], ...) of Su et al., RoFormer, 2021, arXiv:2104.09864. Each product and the sum are rounded to float32 by
themselves, so that every device gives the same bits; where x has 16 bits, the sum once more.

Some models (Qwen3, Gemma 3) normalize each head before: h / sqrt(mean(h²) + eps) · weight, RMSNorm of Zhang & Sennrich,
2019, arXiv:1910.07467. In which order its squares are added is left open, so that bits may differ then.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.schema import define
from operators.validate import check_places, require

OP, ADVICE = "rotary", "convert, reshape or cut it"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def rotary(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    size: int,
    turned: int,
    interleaved: bool = False,
    places: Tensor | None = None,
    weight: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """x [T, W] or [B, S, W], heads of `size` numbers side by side → the same, the first `turned` of them turned

    x of any of FLOATS; cos, sin: of one of them [T, r], or [B or 1, S, r], r even and at most `size`: the first r
    numbers of a head are turned, the others stay. With places int64 [T], 0 or more, of rows of x [T, W], cos and sin
    are [S, r], and a row has the angles at its place modulo S. With weight float32 [turned · size] those that are
    turned are normalized before. Raises ValueError on a bad argument.
    """
    check(x, cos, sin, size, turned, places, weight)
    if places is not None:
        check_places(OP, places)
        cos, sin = (one[places % cos.shape[0]] for one in (cos, sin))
    heads, part = x.unflatten(-1, (-1, size)), cos.shape[-1]
    turning = heads[..., :turned, :].float()
    if weight is not None:
        turning = F.rms_norm(turning, (size,), None, eps) * weight.view(turned, size)
    first, rest = turning[..., :part], turning[..., part:].to(x.dtype)
    made = first * cos.float().unsqueeze(-2) + _half(first, interleaved) * sin.float().unsqueeze(-2)
    made = made.to(x.dtype)
    return torch.cat([torch.cat([made, rest], -1), heads[..., turned:, :]], -2).flatten(-2)


def _half(heads: Tensor, interleaved: bool) -> Tensor:
    if interleaved:
        return torch.stack([-heads[..., 1::2], heads[..., ::2]], -1).flatten(-2)
    one, two = heads.chunk(2, -1)
    return torch.cat([-two, one], -1)


def check(
    x: Tensor, cos: Tensor, sin: Tensor, size: int, turned: int, places: Tensor | None = None,
    weight: Tensor | None = None,
) -> None:  # fmt: skip
    """Raises ValueError, one line, unless the arguments are as rotary wants them."""
    have, columns = f"{x.dtype} of shape {list(x.shape)}", x.shape[-1]
    fits = x.dtype in FLOATS and x.dim() in (2, 3)
    require(fits, f"{OP}: x must be float32 or of 16 bits, [T, W] or [B, S, W]", have, ADVICE)
    require(size > 0 and columns % size == 0, f"{OP}: size must divide the {columns} columns of x", size, ADVICE)
    most = columns // size
    require(0 <= turned <= most, f"{OP}: turned must lie in 0..{most}, the heads of x", turned, ADVICE)
    rows: list[object] = [x.shape[0]] if x.dim() == 2 else [f"{x.shape[0]} or 1", x.shape[1]]
    if places is not None:
        ok = places.dtype == torch.int64 and x.dim() == 2 and places.shape == x.shape[:1]
        got = f"{places.dtype} of shape {list(places.shape)}"
        require(ok, f"{OP}: places must be int64 [T], of x [T, W]", got, "pass what pack_tokens returned")
        rows = ["S"]
    if weight is not None:
        ok = weight.dtype == torch.float32 and weight.shape == (turned * size,)
        got = f"{weight.dtype} of shape {list(weight.shape)}"
        require(ok, f"{OP}: weight must be float32 [{turned * size}], of the heads that are turned", got, ADVICE)
    wanted = f"must be float32 or of 16 bits, [{', '.join(map(str, rows))}, r], r even and at most {size}"
    for name, one in (("cos", cos), ("sin", sin)):
        alike = one.dtype in FLOATS and one.dtype == cos.dtype and one.shape == cos.shape
        fits = alike and _fits(one, x, size, places is not None)
        require(fits, f"{OP}: {name} {wanted}", f"{one.dtype} of shape {list(one.shape)}", ADVICE)


def _fits(one: Tensor, x: Tensor, size: int, placed: bool) -> bool:
    if one.dim() != x.dim() or one.shape[-1] % 2 or one.shape[-1] > size:
        return False
    if placed:
        return one.shape[0] > 0
    if one.shape[-2] != x.shape[-2]:
        return False
    return x.dim() == 2 or one.shape[0] in (1, x.shape[0])


def _fake(x: Tensor, cos: Tensor, sin: Tensor, size: int, turned: int, interleaved: bool = False,
          places: Tensor | None = None, weight: Tensor | None = None, eps: float = 0.0) -> Tensor:  # fmt: skip
    check(x, cos, sin, size, turned, places, weight)
    return x.new_empty(x.shape)


define(
    OP,
    "(Tensor x, Tensor cos, Tensor sin, int size, int turned, bool interleaved=False, Tensor? places=None, "
    "Tensor? weight=None, float eps=0.0) -> Tensor",
    rotary,
    _fake,
)
