"""What depends on sizes and parameters alone, kept for the sizes that a graph was called with last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import _len_torch_function_stack
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

MOST = 16  # sizes that are kept
BYTES = 64 << 20  # that all of them may have: tables of scores grow with the square of the length
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by how many bytes a number has


@dataclass(frozen=True)
class Kept:
    """key: the sizes, and whatever else the results' bits depend on; bits: of the parameters, by copies that nobody
    writes to; size: bytes of memory that the results and these copies hold"""

    key: tuple[Any, ...]
    bits: tuple[Tensor, ...]
    results: tuple[Any, ...]
    size: int


class PerSize(nn.Module):
    """sizes, parameters → what `made`, a graph of operators, computes of them; computed once for each of the last sizes

    The results are the same tensors from call to call: nobody may write to them. They are kept by the bits of the
    parameters, so that any change of those is seen, and they are no part of a state_dict, nor of a copy. Whoever traces
    a call, computes gradients for a parameter, or changes how PyTorch's operators are called gets the operators.
    """

    def __init__(self, made: fx.GraphModule) -> None:
        super().__init__()
        self.made = made
        self.kept: tuple[Kept, ...] = ()  # the last used first; replaced as a whole, so that threads need no lock

    def forward(self, sizes: Sequence[int], parameters: Sequence[Tensor]) -> tuple[Any, ...]:
        if not (_as_ever() and all(type(size) is int for size in sizes) and all(map(_is_plain, parameters))):
            return self.made(*sizes, *parameters)  # type: ignore[no-any-return]
        key = (*sizes, *((held.dtype, held.shape) for held in parameters), torch.get_default_dtype(),
               torch.get_num_threads())  # fmt: skip  # where threads share a tensor, vectors end there
        kept = self.kept
        for number, one in enumerate(kept):
            if one.key == key and all(map(torch.equal, one.bits, map(bits_of, parameters))):
                if number:
                    self.kept = (one, *kept[:number], *kept[number + 1 :])
                return one.results
        made = self._make(key, parameters)
        self._keep(made, kept)
        return made.results

    def _make(self, key: tuple[Any, ...], parameters: Sequence[Tensor]) -> Kept:
        """Outside of inference mode, whose tensors can't be part of what has gradients; of copies, so that no result
        is a view of a parameter."""
        sizes = key[: len(key) - len(parameters) - 2]
        with torch.inference_mode(False), torch.no_grad():
            copies = [held.clone() for held in parameters]
            results = tuple(self.made(*sizes, *copies))
            held = map(Tensor.untyped_storage, tensors_of([copies, results]))
            memory = {one.data_ptr(): one.nbytes() for one in held}
            return Kept(key, tuple(map(bits_of, copies)), results, sum(memory.values()))

    def _keep(self, made: Kept, others: tuple[Kept, ...]) -> None:
        """`made`, and as many of the others, the last used first, as there is room for"""
        room, found = BYTES - made.size, [made]
        for one in others:
            if one.key != made.key and len(found) < MOST and one.size <= room:  # of the same key: a parameter changed
                room -= one.size
                found.append(one)
        self.kept = tuple(found) if room >= 0 else others

    def _apply(self, *args: Any, **kwargs: Any) -> "PerSize":  # to a device, or a dtype
        self.kept = ()
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": ()}

    def extra_repr(self) -> str:
        return f"{sum(node.op == 'call_function' for node in self.made.graph.nodes)} operators"


def _as_ever() -> bool:
    """Whether operators are called and compute as they always do: nobody traces them or is asked to do them instead"""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    modes = is_in_torch_dispatch_mode() or _len_torch_function_stack() > 0
    return not (modes or torch._C._are_functorch_transforms_active())


def _is_plain(held: Tensor) -> bool:
    if type(held) not in (Tensor, nn.Parameter) or not held.is_cpu or not held.is_contiguous():
        return False
    return not (held.requires_grad and torch.is_grad_enabled())


def bits_of(held: Tensor) -> Tensor:
    """→ its numbers as integers: -0.0 is not 0.0, and NaN is itself"""
    return held.view(BITS[held.element_size()])


def tensors_of(value: Any) -> list[Tensor]:
    """→ the tensors in it"""
    if isinstance(value, list | tuple):
        return [held for one in value for held in tensors_of(one)]
    return [value] if isinstance(value, Tensor) else []
