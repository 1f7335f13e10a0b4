"""torch.compile: Inductor's kernels in float32 and bfloat16, frozen, for the shapes that are measured."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch._inductor import config

from benchmarks.peers._models import in_bf16, run_of
from benchmarks.peers.base import Engine, Run, Work


def compiled(model: Callable[..., Any], work: Work, as_run: Callable[[Callable[..., Any]], Run]) -> Run:
    """Compiles at once, with weights frozen to constants and packed for oneDNN.

    Freezing holds only where it is set while the first call compiles, and only without gradients: given as an option
    of torch.compile it leaves the weights arguments.
    """
    run = as_run(torch.compile(model, dynamic=work.dynamic))
    with config.patch(freezing=True):
        run(work.batch)
    return run


def eager_call(model: Callable[..., Any]) -> Run:
    return run_of(model, torch.no_grad)


def fp32(work: Work) -> Run:
    return compiled(copy.deepcopy(work.model), work, eager_call)


def bf16(work: Work) -> Run:
    return compiled(in_bf16(work.model), work, eager_call)


ENGINES = (
    Engine("torch.compile fp32", "fp32", ("torch",), fp32),
    Engine("torch.compile bf16", "bf16", ("torch",), bf16),
)
