"""Random layers, as pack_layer takes them."""

from typing import Any

import torch

from tests.operators.samples import linear

Levels = tuple[bool, float, int, int]

PLAIN, SMOOTHED, INNER, RMS = "plain", "smoothed", "norms inside, GELU by tanh", "RMSNorm"
NONE = (None,) * 4


def layer_of(
    sizes: tuple[int, int, int, int], levels: Levels, quantize: bool, then: bool, way: str = PLAIN, seed: int = 0
) -> tuple[Any, ...]:
    """sizes: K, N, L of the wide linear, P of the last one, which is there with `then`"""
    k, n, wide, last = sizes
    g = torch.Generator().manual_seed(seed)
    norms = [(torch.randn(n, generator=g), torch.randn(n, generator=g), 1e-5) for _ in range(2)]
    smooth = (norms[1][0] - 2, norms[0][1]) if way == SMOOTHED else (None, None)
    inner, rms = way == INNER, way == RMS
    first = (*linear(n, k, seed=seed).args(), *norms[0], *levels, *smooth, inner, rms)
    wider = (*linear(wide, n, seed=seed).args(), *levels, inner)
    second = (*linear(n, wide, bias=False, seed=seed).args(), *norms[1])
    read = linear(last, n, seed=seed).args() if then else NONE
    return *first, *wider, *second, quantize, *levels, *smooth, inner and quantize, rms, *read
