"""Weights rounded so that the errors of a row make up for each other, on the inputs that were seen."""

import torch
from torch import Tensor

DAMPING = 0.01  # of the mean diagonal, added to it: inputs that always go together leave no unique answer
BLOCK = 64  # columns whose errors are passed on to all later ones at once


def compensate(weight: Tensor, scale: Tensor, hessian: Tensor) -> Tensor:
    """weight float32 [N, K], scale float32 [N], hessian E[xᵀx] float32 [K, K] → q int8 [N, K] in [-127, 127], with a
    small E|x (weight − q·scale)ᵀ|²

    Column after column, largest inputs first: each is rounded to the nearest, and the columns that are left take over
    its error as well as they can (GPTQ, Frantar et al. 2022, algorithm 1).
    """
    order = hessian.diagonal().argsort(descending=True)
    w, step = weight.detach().float().t()[order].contiguous(), scale.float()  # [K, N]: a column of weights is a row
    upper = _inverse_factor(hessian[order][:, order].double()).float()
    q = torch.empty_like(w)
    for first in range(0, len(w), BLOCK):
        last = min(first + BLOCK, len(w))
        errors = torch.empty_like(w[first:last])
        for column in range(first, last):
            q[column] = (w[column] / step).round().clamp(-127, 127)
            error = (w[column] - q[column] * step) / upper[column, column]
            w[column:last].addr_(upper[column, column:last], error, alpha=-1)
            errors[column - first] = error
        w[last:].addmm_(upper[first:last, last:].t(), errors, alpha=-1)
    return q[order.argsort()].t().to(torch.int8).contiguous()


def _inverse_factor(hessian: Tensor) -> Tensor:
    """float64 [K, K] → the upper triangular U with UᵀU = the inverse of the damped matrix"""
    mean = hessian.diagonal().mean()
    damped = hessian + torch.eye(len(hessian), dtype=hessian.dtype) * (DAMPING * mean if mean > 0 else 1)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
