"""What stands in for a CUDA graph where there is no GPU: every operator and every launch of a kernel is written down
with the tensors that it had, and done again on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import GridExecutor

from targets.cuda.buckets import Captured, Run


def recorded(run: Run, inputs: list[Tensor], longest: int) -> Captured:
    """A Capture. What asks for a number, for which the CPU would wait, is refused as a GPU's capture refuses it."""
    recorder = Recorder()
    with recorder, launches_of(recorder):
        outputs = run(inputs, longest)
    return Captured(inputs, outputs, recorder.replay)


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.launching = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert self.launching or func is not torch.ops.aten._local_scalar_dense.default, "the CPU waits for the GPU"
        made = func(*args, **(kwargs or {}))
        if not self.launching:
            self.done.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        for func, args, kwargs, made in self.done:
            now = func(*args, **kwargs)
            for held, part in zip(_pytree.tree_leaves(made), _pytree.tree_leaves(now), strict=True):
                if isinstance(held, Tensor) and held.data_ptr() != part.data_ptr():  # else a view, or in place
                    held.copy_(part)


@contextmanager
def launches_of(recorder: Recorder) -> Iterator[None]:
    """Every launch goes through `recorder`; what the interpreter itself asks of PyTorch doesn't."""
    launch = GridExecutor.__call__

    def launched(kernel: GridExecutor, *args: Any, **kwargs: Any) -> None:
        recorder.launching = True
        try:
            launch(kernel, *args, **kwargs)
        finally:
            recorder.launching = False
        recorder.done.append((launch, (kernel, *args), kwargs, None))

    GridExecutor.__call__ = launched
    try:
        yield
    finally:
        GridExecutor.__call__ = launch
