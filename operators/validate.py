"""What the operators accept, checked in one place for the reference and the fakes (csrc/checks.h says the same)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, dtype, float32, int8, int32, uint8

MAX_K = 66_311  # 255 * 127 * K stays below 2**31: a longer sum could wrap
MAX_K_128 = 65_793  # and 255 * 128 * K, for weights that reach down to -128, as other quantizers make them
PANEL = 64  # columns (output channels) of one packed panel
ROTATIONS = (0, 2, 4, 8, 16, 32, 64, 128)  # the blocks of rows that are rotated; 0: they are not
TINY, HUGE = torch.finfo(float32).tiny, torch.finfo(float32).max
GROUP = 4  # consecutive k that one 32-bit lane of a dot-product instruction takes


def require(condition: bool, wanted: str, got: object, todo: str) -> None:
    """Raises ValueError with one line, what was wanted, what came, what to do, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{wanted}; got {got}; {todo}")


def ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b


def _tensor(op: str, name: str, t: Tensor, kind: dtype, dims: int) -> None:
    wanted = f"{op}: {name} must be {str(kind).removeprefix('torch.')} with {dims} dimension{'s' * (dims != 1)}"
    todo = f"convert or reshape {name}"
    require(t.dtype == kind and t.dim() == dims, wanted, f"{t.dtype} of shape {list(t.shape)}", todo)


def check_depth(op: str, k: int) -> None:
    """0 < k <= MAX_K."""
    wanted = f"{op}: K must lie in 1..{MAX_K}, where int32 sums are exact"
    require(0 < k <= MAX_K, wanted, k, "split the reduction")


def _length(op: str, name: str, t: Tensor, length: int, of: str) -> None:
    wanted = f"{op}: {name} must have one entry for each {of}, {length}"
    require(t.shape[0] == length, wanted, t.shape[0], f"fix {name}")


def _packed(op: str, packed: Tensor, k: int, weight_sum: Tensor) -> None:
    _tensor(op, "packed", packed, int8, 4)
    _tensor(op, "weight_sum", weight_sum, int32, 1)
    want = [ceil_div(weight_sum.shape[0], PANEL), ceil_div(k, GROUP), PANEL, GROUP]
    wanted = f"{op}: packed must have shape {want} for K={k} and N={weight_sum.shape[0]}"
    require(list(packed.shape) == want, wanted, list(packed.shape), "use opswap::pack_weight")


def check_activation(op: str, x: Tensor) -> None:
    """x: float32 [..., K], 0 < K <= MAX_K."""
    wanted = f"{op}: x must be float32 with at least 1 dimension"
    require(
        x.dtype == float32 and x.dim() >= 1,
        wanted,
        f"{x.dtype} of shape {list(x.shape)}",
        "convert x with .float()",
    )
    check_depth(op, x.shape[-1])


def check_levels(op: str, symmetric: bool, fixed_scale: float, fixed_zero: int, rotation: int) -> None:
    """fixed_scale: 0, or a normal float32 above it; fixed_zero: a level, 1..255 if symmetric, else 0..255; rotation:
    one of ROTATIONS."""
    wanted = f"{op}: fixed_scale must be 0 (per token) or a normal, finite, positive float32"
    normal = TINY <= fixed_scale <= HUGE
    require(fixed_scale == 0 or normal, wanted, fixed_scale, "calibrate again")
    least = int(symmetric)
    require(least <= fixed_zero <= 255, f"{op}: fixed_zero must lie in {least}..255", fixed_zero, "calibrate again")
    wanted = f"{op}: rotation must be 0 (none) or a power of 2 within {ROTATIONS[1]}..{ROTATIONS[-1]}"
    require(rotation in ROTATIONS, wanted, rotation, f"pass {ROTATIONS[-1]}")


def check_weight(op: str, weight: Tensor) -> None:
    """weight: int8 [N, K], 0 < K <= MAX_K."""
    _tensor(op, "weight", weight, int8, 2)
    check_depth(op, weight.shape[1])


def check_matmul(op: str, q: Tensor, zero_point: Tensor, packed: Tensor, weight_sum: Tensor) -> None:
    """q: uint8 [M, K]; zero_point: int32 [M]; packed: int8 [ceil(N/64), ceil(K/4), 64, 4]; weight_sum: int32 [N]."""
    _tensor(op, "q", q, uint8, 2)
    check_depth(op, q.shape[1])
    _tensor(op, "zero_point", zero_point, int32, 1)
    _length(op, "zero_point", zero_point, q.shape[0], "row of q")
    _packed(op, packed, q.shape[1], weight_sum)


def check_linear(
    op: str, x: Tensor, packed: Tensor, weight_sum: Tensor, weight_scale: Tensor, bias: Tensor | None
) -> None:
    """x: float32 [..., K]; packed and weight_sum as in check_matmul; weight_scale, bias: float32 [N]."""
    check_activation(op, x)
    check_weights(op, packed, weight_sum, weight_scale, bias, x.shape[-1])


def check_rows(op: str, q: Tensor, scale: Tensor, zero_point: Tensor) -> None:
    """q: uint8 [M, K]; scale: float32 [M]; zero_point: int32 [M]."""
    _tensor(op, "q", q, uint8, 2)
    check_depth(op, q.shape[1])
    for name, t, kind in (("scale", scale, float32), ("zero_point", zero_point, int32)):
        _tensor(op, name, t, kind, 1)
        _length(op, name, t, q.shape[0], "row of q")


def check_weights(
    op: str, packed: Tensor, weight_sum: Tensor, weight_scale: Tensor, bias: Tensor | None, k: int
) -> None:
    """packed and weight_sum as in check_matmul; weight_scale, bias: float32 [N]."""
    _packed(op, packed, k, weight_sum)
    for name, t in (("weight_scale", weight_scale), ("bias", bias)):
        if t is not None:
            _tensor(op, name, t, float32, 1)
            _length(op, name, t, weight_sum.shape[0], "output channel")


def check_matrix(op: str, x: Tensor) -> None:
    """x: float32 [M, N], 0 < N <= MAX_K."""
    _tensor(op, "x", x, float32, 2)
    check_depth(op, x.shape[1])


def check_norm(op: str, x: Tensor, name: str, rows: int, columns: int, gamma: Tensor, beta: Tensor) -> None:
    """x: float32 [rows, columns], 0 < columns <= MAX_K; gamma, beta: float32 [columns]."""
    check_depth(op, columns)
    _tensor(op, name, x, float32, 2)
    fits = x.shape[0] == rows and x.shape[1] == columns
    require(fits, f"{op}: {name} must be [{rows}, {columns}]", list(x.shape), f"reshape {name}")
    for part, t in (("gamma", gamma), ("beta", beta)):
        _tensor(op, part, t, float32, 1)
        _length(op, part, t, columns, "column")


def check_smooth(op: str, scale: Tensor | None, shift: Tensor | None, columns: int) -> tuple[Tensor, Tensor] | None:
    """smooth_scale and smooth_shift: float32 [columns], or None both. → them, None for none"""
    wanted = f"{op}: smooth_scale and smooth_shift must come together"
    require((scale is None) == (shift is None), wanted, "one of them", "pass both or none")
    if scale is None or shift is None:
        return None
    for part, t in (("smooth_scale", scale), ("smooth_shift", shift)):
        _tensor(op, part, t, float32, 1)
        _length(op, part, t, columns, "column")
    return scale, shift


def check_packed_heads(op: str, qkv: Tensor, heads: int, scale: float, shared: int | None = None) -> None:
    """qkv: float32 or bfloat16 [T, 3 * heads * d], or [T, (heads + 2 * shared) * d]; scale: finite."""
    ok = qkv.dtype in (float32, torch.bfloat16) and qkv.dim() == 2
    wanted = f"{op}: qkv must be float32 or bfloat16 with 2 dimensions"
    require(ok, wanted, f"{qkv.dtype} of shape {list(qkv.shape)}", "convert or reshape qkv")
    count = 3 * heads if shared is None else heads + 2 * shared
    ok = heads > 0 and qkv.shape[1] > 0 and qkv.shape[1] % count == 0
    columns = "3 * heads * d" if shared in (None, heads) else f"(heads + 2 * {shared}) * d"
    wanted = f"{op}: qkv must have {columns} columns for {heads} heads"
    require(ok, wanted, qkv.shape[1], "fix qkv or heads")
    require(math.isfinite(scale), f"{op}: scale must be finite", scale, "pass d ** -0.5")


def check_bias(op: str, bias: Tensor, name: str = "bias") -> None:
    """bias: float32 with four dimensions."""
    _tensor(op, name, bias, float32, 4)


def check_attention(op: str, qkv: Tensor, starts: Tensor, keep: Tensor | None, heads: int, scale: float) -> None:
    """qkv and scale as above; starts: int32 [B + 1]; keep: bool [T]."""
    check_packed_heads(op, qkv, heads, scale)
    _tensor(op, "starts", starts, int32, 1)
    if keep is not None:
        _tensor(op, "keep", keep, torch.bool, 1)
        _length(op, "keep", keep, qkv.shape[0], "row of qkv")


def check_starts(op: str, starts: list[int], rows: int) -> None:
    """starts: rises from 0 to rows (equal neighbours are an empty sequence)."""
    ok = bool(starts) and starts[0] == 0 and starts[-1] == rows and starts == sorted(starts)
    wanted = f"{op}: starts must rise from 0 to {rows}, the rows of qkv"
    require(ok, wanted, f"{starts[0]}..{starts[-1]}" if starts else "nothing", "use the running sum of the lengths")


def check_lookup(op: str, ids: Tensor, table: Tensor, rows: Sequence[int], columns: Sequence[int]) -> None:
    """ids: int64 or int32 [rows]; table: float32 [V, columns]."""
    _tensor(op, "ids", ids, torch.int32 if ids.dtype == torch.int32 else torch.int64, 1)
    _tensor(op, "table", table, float32, 2)
    fits = list(ids.shape) == list(rows) and list(table.shape[1:]) == list(columns)
    wanted = f"{op}: ids must be {list(rows)}, and tables have {list(columns)} columns"
    require(fits, wanted, f"{list(ids.shape)} and {list(table.shape)}", "pass as many ids for each table")


def check_places(op: str, places: Tensor) -> None:
    """places int64 [T]: 0 or more, which a fake cannot see. Raises ValueError."""
    low = int(places.min()) if len(places) else 0
    require(low >= 0, f"{op}: places must be 0 or more", low, "pass what pack_tokens returned")
