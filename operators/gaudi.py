"""Gaudi's FP8 operators, emulated on any device: opswap::fp8_cast and opswap::fp8_gemm on bytes.

They take what torch.ops.hpu.cast_to_fp8_v2 and torch.ops.hpu.fp8_gemm_v2 take, by the same names and in that order, and
then the chip whose E4M3 it is and the exponent biases. FP8 values are uint8 here, the bit patterns themselves.
"""

import torch
from torch import Tensor

from operators.e4m3 import NORMAL, chip_of, decode, encode
from operators.fp8 import FP8
from operators.schema import define
from operators.validate import require

# Products are whole multiples of 2⁻¹⁸ below 2¹⁷·⁷ (448² at the normal bias): float64 holds sums of 2¹⁷ exactly.
MAX_K = 2**17
FLOATS = (torch.float32, torch.bfloat16)


def fp8_cast(
    input: Tensor,
    scale: Tensor | None = None,
    stochastic_rounding: bool = False,
    is_amax: bool = False,
    dtype: torch.dtype | None = None,
    chip: str = "gaudi2",
    exponent_bias: int = NORMAL,
) -> tuple[Tensor, Tensor]:
    """input float32 or bfloat16 [...], scale float32 that broadcasts to it, or None → uint8 of its shape, and the
    largest |input| as float32 [] where is_amax, else []: zero

    input · scale in float32, then the nearest E4M3 of the chip, ties to even, saturated. dtype: PyTorch's name of E4M3,
    whichever chip it is, or None. Raises ValueError on a bad argument; stochastic rounding and E5M2 are not emulated.
    """
    _check_cast(input, scale, stochastic_rounding, dtype, chip, exponent_bias)
    scaled = input.to(torch.float32) if scale is None else input.to(torch.float32) * scale
    largest = (
        input.abs().amax().to(torch.float32) if is_amax and input.numel() else input.new_zeros((), dtype=FLOATS[0])
    )
    return encode(scaled, chip_of("fp8_cast", chip, exponent_bias), exponent_bias), largest


def fp8_gemm(
    A: Tensor,
    trans_A: bool,
    B: Tensor,
    trans_B: bool,
    D: Tensor | None,
    out_dtype: torch.dtype,
    A_scale_inv: Tensor | None = None,
    B_scale_inv: Tensor | None = None,
    bias: Tensor | None = None,
    accumulate: bool = False,
    chip: str = "gaudi2",
    A_bias: int = NORMAL,
    B_bias: int = NORMAL,
) -> Tensor:
    """A uint8 [..., M, K] ([K, M] with trans_A), B uint8 [K, N] ([N, K] with trans_B) → out_dtype [..., M, N]:
    A_scale_inv · B_scale_inv · A·B + bias, and + D where accumulate

    Scales float32: of one element, A's also [..., M, 1], B's also [N]; bias float32 or bfloat16 [N]. The sum is exact,
    whatever its order, and rounded once at the end; the chip's own sums are float32 of an order that is not
    documented. Raises ValueError on a bad argument, K above 2¹⁷ among them.
    """
    _check_gemm(A, trans_A, B, trans_B, D, out_dtype, A_scale_inv, B_scale_inv, bias, accumulate)
    a = decode(A, chip_of("fp8_gemm", chip, A_bias), A_bias, torch.float64)
    b = decode(B, chip_of("fp8_gemm", chip, B_bias), B_bias, torch.float64)
    y = (a.transpose(-1, -2) if trans_A else a) @ (b.t() if trans_B else b)
    for scale in (A_scale_inv, B_scale_inv):
        if scale is not None:
            y = y * scale.to(torch.float64)
    for term in (bias, D if accumulate else None):
        if term is not None:
            y = y + term.to(torch.float64)
    return y.to(torch.float32).to(out_dtype)


def _check_cast(
    input: Tensor, scale: Tensor | None, stochastic: bool, dtype: torch.dtype | None, chip: str, exponent_bias: int
) -> None:
    op = "fp8_cast"
    require(input.dtype in FLOATS, f"{op}: input must be float32 or bfloat16", input.dtype, "convert it")
    require(not stochastic, f"{op}: rounding to nearest is emulated", "stochastic_rounding", "leave it out")
    require(dtype in (None, FP8), f"{op}: E4M3 is emulated", dtype, f"give {FP8}")
    chip_of(op, chip, exponent_bias)
    if scale is not None:
        require(scale.dtype == torch.float32, f"{op}: scale must be float32", scale.dtype, "convert it")
        fits = scale.dim() <= input.dim() and all(
            have in (1, want) for have, want in zip(reversed(scale.shape), reversed(input.shape), strict=False)
        )
        wanted = f"{op}: scale must broadcast to input, {list(input.shape)}"
        require(fits, wanted, list(scale.shape), "reshape it")


def _check_gemm(A: Tensor, trans_A: bool, B: Tensor, trans_B: bool, D: Tensor | None, out_dtype: torch.dtype,
                A_scale: Tensor | None, B_scale: Tensor | None, bias: Tensor | None,
                accumulate: bool) -> None:  # fmt: skip
    op = "fp8_gemm"
    ok = A.dtype == torch.uint8 and B.dtype == torch.uint8 and A.dim() >= 2 and B.dim() == 2
    got = f"{A.dtype} {list(A.shape)}, {B.dtype} {list(B.shape)}"
    require(ok, f"{op}: A and B must be uint8, A [..., M, K], B [K, N]", got, "use opswap::fp8_cast")
    require(out_dtype in FLOATS, f"{op}: out_dtype must be float32 or bfloat16", out_dtype, "choose one of them")
    m, k = (A.shape[-1], A.shape[-2]) if trans_A else (A.shape[-2], A.shape[-1])
    n, depth = (B.shape[0], B.shape[1]) if trans_B else (B.shape[1], B.shape[0])
    require(depth == k, f"{op}: A and B must have the same K", f"{k} and {depth}", "look at trans_A and trans_B")
    require(k <= MAX_K, f"{op}: K must be at most {MAX_K}, where sums are exact", k, "split the reduction")
    rows = [*A.shape[:-2], m, 1]
    for name, scale, long in (("A_scale_inv", A_scale, rows), ("B_scale_inv", B_scale, [n])):
        fits = scale is None or (
            scale.dtype == torch.float32 and (list(scale.shape) in ([], [1]) or list(scale.shape) == long)
        )
        what = None if scale is None else f"{scale.dtype} {list(scale.shape)}"
        require(fits, f"{op}: {name} must be float32, one element or {long}", what, "reshape it")
    fits = bias is None or (bias.dtype in FLOATS and list(bias.shape) == [n])
    require(fits, f"{op}: bias must be float32 or bfloat16 [{n}]", None if bias is None else list(bias.shape), "fix it")
    want = [*A.shape[:-2], m, n]
    fits = not accumulate or (D is not None and list(D.shape) == want)
    require(fits, f"{op}: D must be {want} to add to", None if D is None else list(D.shape), "pass it")


def _fake_cast(input: Tensor, scale: Tensor | None = None, stochastic_rounding: bool = False, is_amax: bool = False,
               dtype: torch.dtype | None = None, chip: str = "gaudi2",
               exponent_bias: int = NORMAL) -> tuple[Tensor, Tensor]:  # fmt: skip
    _check_cast(input, scale, stochastic_rounding, dtype, chip, exponent_bias)
    return input.new_empty(input.shape, dtype=torch.uint8), input.new_empty((), dtype=torch.float32)


def _fake_gemm(A: Tensor, trans_A: bool, B: Tensor, trans_B: bool, D: Tensor | None, out_dtype: torch.dtype,
               A_scale_inv: Tensor | None = None, B_scale_inv: Tensor | None = None, bias: Tensor | None = None,
               accumulate: bool = False, chip: str = "gaudi2", A_bias: int = NORMAL,
               B_bias: int = NORMAL) -> Tensor:  # fmt: skip
    _check_gemm(A, trans_A, B, trans_B, D, out_dtype, A_scale_inv, B_scale_inv, bias, accumulate)
    m, n = A.shape[-1 if trans_A else -2], B.shape[0 if trans_B else 1]
    return A.new_empty((*A.shape[:-2], m, n), dtype=out_dtype)


define(
    "fp8_cast",
    "(Tensor input, Tensor? scale=None, bool stochastic_rounding=False, bool is_amax=False, "
    f'ScalarType? dtype=None, str chip="gaudi2", int exponent_bias={NORMAL}) -> (Tensor, Tensor)',
    fp8_cast,
    _fake_cast,
)
define(
    "fp8_gemm",
    "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, Tensor? A_scale_inv=None, "
    'Tensor? B_scale_inv=None, Tensor? bias=None, bool accumulate=False, str chip="gaudi2", '
    f"int A_bias={NORMAL}, int B_bias={NORMAL}) -> Tensor",
    fp8_gemm,
    _fake_gemm,
)
