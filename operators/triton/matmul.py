"""What the two matrix kernels share: the order in which tiles are computed, and the loop over K."""

import triton
import triton.language as tl


@triton.jit
def swizzle(M, N, BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr):
    """→ the tile's place: GROUP rows of tiles are walked through column by column, so that what runs at the same time
    reads few panels of both operands, and finds them in L2"""
    number = tl.program_id(0)
    high, wide = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = number // (GROUP * wide) * GROUP
    size = tl.minimum(high - first, GROUP)
    inside = number % (GROUP * wide)
    return first + inside % size, inside // size


@triton.jit
def multiply(
    a, b, M, N, m, n, part, zero,
    K: tl.constexpr, SPLIT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """a [M, K], b [N, K] → zero + the sums of tile (m, n), [BM, BN], over every SPLIT-th block of K from `part` on

    Rows beyond M and N are read from the front again, and not stored.
    """
    rows = (m * BM + tl.arange(0, BM)) % M
    columns = (n * BN + tl.arange(0, BN)) % N
    depth = part * BK + tl.arange(0, BK)
    left = a + rows.to(tl.int64)[:, None] * K + depth[None, :]
    right = b + columns.to(tl.int64)[None, :] * K + depth[:, None]
    acc = zero
    even: tl.constexpr = K % (BK * SPLIT) == 0
    for step in range(0, tl.cdiv(K, BK * SPLIT)):
        if even:
            x = tl.load(left)
            w = tl.load(right)
        else:
            reach = (step * SPLIT + part) * BK + tl.arange(0, BK) < K
            nothing: tl.constexpr = 0 if acc.dtype == tl.int32 else 0.0
            x = tl.load(left, mask=reach[None, :], other=nothing)
            w = tl.load(right, mask=reach[:, None], other=nothing)
        acc = tl.dot(x, w, acc, out_dtype=acc.dtype)
        left += BK * SPLIT
        right += BK * SPLIT
    return acc
