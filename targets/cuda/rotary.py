"""cuda's rotation of heads: one kernel, whose floats are of the type that attention reads."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from operators.triton.rotary import rotary

ROTARY = torch.ops.opswap.rotary.default
NAME = "rotary"


class CudaRotary(nn.Module):
    """opswap::rotary: x [T, W] or [B, S, W] of any float type, cos, sin, and the weight of heads that are normalized
    before → the same of `dtype` (None: of x's)"""

    dtype: torch.dtype | None = None

    def __init__(self, size: int, turned: int, interleaved: bool = False, eps: float = 0.0) -> None:
        super().__init__()
        self.how, self.eps = (size, turned, interleaved), eps

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None = None) -> Tensor:
        return rotary(x, cos, sin, *self.how, weight, self.eps, dtype=self.dtype)

    def extra_repr(self) -> str:
        size, turned, interleaved = self.how
        return f"size={size}, turned={turned}, interleaved={interleaved}, eps={self.eps}"


def swap_rotary(graph: fx.GraphModule) -> int:
    """rotary(x, cos, sin, how, weight) → CudaRotary(how)(x, cos, sin, weight). → how many"""
    found = graph.graph.find_nodes(op="call_function", target=ROTARY)
    for number, node in enumerate(found):
        how: Any = node.args[3:]
        name, named = f"{NAME}_{number}", dict(node.kwargs)
        given = (*node.args[:3], *((named.pop("weight"),) if "weight" in named else ()))
        graph.add_submodule(name, CudaRotary(*how, **named).eval())
        with graph.graph.inserting_before(node):
            call = graph.graph.call_module(name, given)
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.graph.erase_node(node)
    return len(found)
