"""What the kernels share: rounding, and rows of floats → levels, number for number as operators/reference.py."""

from dataclasses import dataclass

import triton
import triton.language as tl

from operators.validate import ROTATIONS, require

SYMMETRIC, ASYMMETRIC, FP8 = "symmetric", "asymmetric", "fp8"
MIDDLE = 128  # what unsigned levels are above signed ones
MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2**23: adding it leaves no bits for fractions, ties go to even
TINY = tl.constexpr(1.1754943508222875e-38)  # the smallest normal float32
LARGEST = tl.constexpr(448.0)  # of E4M3
FAR = tl.constexpr(512.0)  # beyond all levels, whatever the zero point


@dataclass(frozen=True)
class Levels:
    """How a kernel makes levels of floats. how: SYMMETRIC, ASYMMETRIC or FP8; scale: 0 is each row's own, any other
    is every row's; zero_point: the signed one that goes with a scale that is given; rotation: of what rotated makes of
    the rows, by blocks of so many. Raises ValueError for a rotation that is none of ROTATIONS, or of FP8."""

    how: str
    scale: float = 0.0
    zero_point: int = 0
    rotation: int = 0

    def __post_init__(self) -> None:
        known = ROTATIONS[:1] if self.how == FP8 else ROTATIONS
        require(self.rotation in known, f"Levels: rotation of {self.how} must be in {known}", self.rotation, "pass 0")

    @staticmethod
    def of(symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = MIDDLE, rotation: int = 0) -> "Levels":
        """The arguments of opswap::quantize_per_token after x, as a kernel takes them."""
        return Levels(SYMMETRIC if symmetric else ASYMMETRIC, fixed_scale, fixed_zero - MIDDLE, rotation)


@triton.jit
def round_even(x):
    """Ties to even, for |x| < 2**22. Its callers clamp x, which also keeps a product from becoming part of an fma."""
    return (x + MAGIC) - MAGIC


@triton.jit
def safe_scale(span, count):
    """span / count; 1 where that is no normal float, NaN where it is not finite"""
    scale = tl.div_rn(span, count)
    scale = tl.where(scale < TINY, 1.0, scale)
    return tl.where(scale < float("inf"), scale, float("nan"))


@triton.jit
def fixed_levels(y, scale, zero, HOW: tl.constexpr):
    """y float32, of any shape → its levels as float32, by a scale (not NaN) and a signed zero point"""
    level = round_even(tl.minimum(tl.maximum(y * tl.div_rn(1.0, scale), -FAR), FAR))
    low: tl.constexpr = -127.0 if HOW == "symmetric" else -128.0
    return tl.minimum(tl.maximum(level + zero, low), 127.0)


@triton.jit
def sums_and_differences(y, APART: tl.constexpr):
    """y float32 [R, C], C a power of 2 → the same, the pairs APART apart now their sums and differences"""
    R: tl.constexpr = y.shape[0]
    C: tl.constexpr = y.shape[1]
    one = tl.reshape(y, (R, C // (2 * APART), 2, APART))
    # The other of each pair: the bits of both less its own. That takes registers and shuffles alone, where split and
    # join take shared memory for the whole row. The conversion wraps what the interpreter adds up in 64 bits.
    both = tl.sum(one.to(tl.uint32, bitcast=True), 2, keep_dims=True).to(tl.int32)
    other = tl.sub(both, one.to(tl.int32, bitcast=True), sanitize_overflow=False).to(tl.float32, bitcast=True)
    second = (tl.arange(0, 2) == 1)[None, None, :, None]
    return tl.reshape(other + tl.where(second, -one, one), (R, C))


@triton.jit
def rotated(y, columns, N, ROTATION: tl.constexpr):
    """y float32 [R, C], whole rows of N columns, C a power of 2 → reference.rotated of them, bit for bit where no
    product of before becomes part of an fma

    C holds each block whole or not at all, and what a block beyond the last whole one becomes is not kept.
    """
    if ROTATION > 0 and y.shape[1] >= ROTATION:
        turned = y
        for power in tl.static_range(0, 7):
            if 2 << power <= ROTATION:
                turned = sums_and_differences(turned, 1 << power)
        y = tl.where((columns < N // ROTATION * ROTATION)[None, :], turned, y)
    return y


@triton.jit
def is_bad(y, inside):
    """y [R, N], `inside` where there is one → int1 [R, 1]: rows that hold NaN, which tl.max would skip, or infinity"""
    return tl.max(tl.where(inside & ((y != y) | (tl.abs(y) == float("inf"))), 1, 0), 1, keep_dims=True) > 0


@triton.jit
def own_scale(y, inside, HOW: tl.constexpr):
    """y float32 [R, N], `inside` where there is one → the scale and signed zero point of each row, float32 [R, 1]

    The scale is NaN where a row holds NaN or infinity.
    """
    bad = is_bad(y, inside)
    if HOW == "asymmetric":
        low = tl.minimum(tl.min(tl.where(inside, y, 0.0), 1, keep_dims=True), 0.0)
        high = tl.maximum(tl.max(tl.where(inside, y, 0.0), 1, keep_dims=True), 0.0)
        scale = tl.where(bad, float("nan"), safe_scale(high - low, 255.0))
        zero = round_even(tl.minimum(tl.maximum(-low * tl.div_rn(1.0, scale), 0.0), 255.0)) - 128.0
        return scale, tl.where(scale == scale, zero, -128.0)
    else:
        most: tl.constexpr = LARGEST if HOW == "fp8" else 127.0
        amax = tl.max(tl.where(inside, tl.abs(y), 0.0), 1, keep_dims=True)
        scale = tl.where(bad, float("nan"), safe_scale(amax, most))
        return scale, tl.zeros_like(scale)


@triton.jit
def store_levels(
    y, rows, columns, inside, M, N, q, scales, zeros, fixed_scale, fixed_zero,
    HOW: tl.constexpr, FIXED: tl.constexpr, SNAP: tl.constexpr, ROTATION: tl.constexpr,
):  # fmt: skip
    """y float32 [R, C], all of R rows → rows: q [M, N] and the scale and zero point of each"""
    y = rotated(y, columns, N, ROTATION)
    scale, zero = own_scale(y, inside, HOW)
    if FIXED:
        scale = tl.where(is_bad(y, inside), float("nan"), fixed_scale)
        zero = tl.zeros_like(scale) + fixed_zero
    good = scale == scale
    usable = tl.where(good, scale, 1.0)
    at = q + rows.to(tl.int64)[:, None] * N + columns[None, :]
    if HOW == "fp8":
        level = tl.minimum(tl.maximum(y * tl.div_rn(1.0, usable), -LARGEST), LARGEST)
        level = tl.where(good, level, 0.0)
        if SNAP:
            level = snap_fp8(level)
        tl.store(at, level.to(tl.float8e4nv), mask=inside)
    else:
        level = tl.where(good, fixed_levels(y, usable, zero, HOW), zero)
        tl.store(at, level.to(tl.int8), mask=inside)
    tl.store(scales + rows[:, None], scale, mask=rows[:, None] < M)
    tl.store(zeros + rows[:, None], zero.to(tl.int32), mask=rows[:, None] < M)


@triton.jit
def snap_fp8(x):
    """|x| <= 448 → the nearest value of E4M3, ties to even, still float32: what the hardware's conversion does, and
    the interpreter's only does for values that E4M3 has"""
    power = (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)  # 2 ** floor(log2(|x|))
    step = tl.maximum(power * 0.125, 0.001953125)  # 3 bits below the leading one; 2**-9 where E4M3 has no exponent left
    return (x + step * MAGIC) - step * MAGIC


@triton.jit
def snap_bf16(x):
    """→ the nearest value of bfloat16, ties to even, still float32: what the hardware's conversion does, and the
    interpreter's only does for values that bfloat16 has"""
    bits = x.to(tl.int32, bitcast=True)
    near = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
    return tl.where(x == x, near.to(tl.float32, bitcast=True), x)


@triton.jit
def activate(y, ACTIVATION: tl.constexpr):
    """y float32, of any shape; ACTIVATION: one of floating.ACTIVATIONS, or of those of gates"""
    if ACTIVATION == "gelu":
        y = 0.5 * y * (1.0 + tl.math.erf(y * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        u = 0.7978845608028654 * (y + 0.044715 * y * y * y)
        y *= tl.sigmoid(2.0 * u)  # which is 0.5 * (1 + tanh(u)): Triton has no tanh that is everywhere
    elif ACTIVATION == "silu":
        y *= tl.sigmoid(y)
    else:
        tl.static_assert(ACTIVATION == "none", "activation must be of operators.floating.ACTIVATIONS or silu")
    return y
