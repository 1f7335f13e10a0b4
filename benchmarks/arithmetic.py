"""How many multiply-adds a model does, counted by running it without numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.base import Batch
from toolkit.rotated import Rotated


@dataclass(frozen=True)
class Work:
    """Multiply-adds of all linears, and of attention's two products of activations."""

    linears: int
    attention: int

    @property
    def total(self) -> int:
        return self.linears + self.attention


def multiply_adds(model: nn.Module, batch: Batch) -> Work:
    """Of one call with this batch, padding included: T·K·N of each linear, the heads' too, and 2·B·S²·H of each
    attention. Everything else (embeddings, LayerNorm, GELU, softmax) counts as nothing, as do the products with ±1 by
    which a graph that was quantized with `rotate` rotates rows: targets take sums for them. So does what linears make
    of parameters alone, the same for any batch, as DeBERTa's do of distances: who is fast computes it once."""
    one, two = (_counted(model, {name: torch.cat([ids] * times) for name, ids in batch.items()}) for times in (1, 2))
    return Work(two.linears - one.linears, one.attention)


def _counted(model: nn.Module, batch: Batch) -> Work:
    """The same, but for what linears make of parameters alone, which counts too"""
    mode = FakeTensorMode()
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    # detached, as what counts asks others for gradients; one of each, as a language model's head is its embedding
    fakes = {id(tensor): mode.from_tensor(tensor.detach()) for _, tensor in named}
    where: dict[str, Tensor] = {name: fakes[id(tensor)] for name, tensor in named}
    given = {name: mode.from_tensor(tensor) for name, tensor in batch.items()}
    # attention as its two products: kernels that do both at once are not counted on every device
    with torch.no_grad(), mode, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(model, where, (), given)
    found = counter.get_flop_counts()
    counted: dict[Any, int] = found["Global"]
    turns = {f"{type(model).__name__}.{name}" for name, part in model.named_modules() if isinstance(part, Rotated)}
    rotations = sum(sum(found[name].values()) for name in turns & found.keys())
    linears = sum(count for operator, count in counted.items() if _is_linear(operator))
    others = sum(counted.values()) - linears
    return Work((linears - rotations) // 2, others // 2)  # two operations a multiply-add


def _is_linear(operator: Any) -> bool:
    """A product with a weight is a matrix product; one of two activations is batched."""
    return operator in (torch.ops.aten.mm, torch.ops.aten.addmm)


def of_lengths(model: nn.Module, batch: Batch, lengths: Sequence[int]) -> Work:
    """Of sequences of these lengths without padding: linears grow with a sequence's length, attention with its
    square, both measured on `batch`."""
    rows, longest = batch["input_ids"].shape
    one = multiply_adds(model, batch)
    linears = sum(one.linears * length // (rows * longest) for length in lengths)
    return Work(linears, sum(one.attention * length**2 // (rows * longest**2) for length in lengths))
