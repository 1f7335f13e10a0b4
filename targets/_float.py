"""customcpu's linears on float activations: one operator over weights packed once, float32, bfloat16 or int8."""

from typing import cast

import torch
from torch import Tensor, fx, nn

from operators import kernels
from operators.floating import GELUS
from targets._bf16 import Bf16Linear
from targets._fused import COUNTED
from targets._pages import let_go
from targets._weight import WeightLinear
from targets.base import Recipe

aten = torch.ops.aten


class PackedFloatLinear(nn.Module):
    """nn.Linear as opswap::linear_float, in the dtype of its weight: x float32 or bfloat16 [..., K] → [..., N]

    With bfloat16 weights, sums and bias are float32 and each result is rounded once. activation: one of ACTIVATIONS.
    """

    packed: Tensor
    bias: Tensor | None

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.activation = source.in_features, source.out_features, "none"
        weight = source.weight.detach()
        self.register_buffer("packed", torch.ops.opswap.pack_weight_float(weight, weight.dtype == torch.bfloat16))
        let_go(weight)
        self.register_buffer("bias", None if source.bias is None else source.bias.detach().to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.opswap.linear_float(x, self.packed, self.bias, self.out_features, self.activation)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, activation={self.activation}, dtype={self.packed.dtype}"


class PackedWeightLinear(nn.Module):
    """WeightLinear as opswap::linear_w8: x float32 or bfloat16 [..., K] → [..., N]; activation as above"""

    packed: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, source: WeightLinear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.activation = source.in_features, source.out_features, "none"
        self.register_buffer("packed", torch.ops.opswap.pack_weight_w8(source.weight))
        let_go(source.weight)
        self.register_buffer("scale", source.scale)
        self.register_buffer("bias", source.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.opswap.linear_w8(x, self.packed, self.scale, self.bias, self.activation)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, activation={self.activation}, weight=int8"


PACKED = (PackedFloatLinear, PackedWeightLinear)


def lower_float(graph: fx.GraphModule, recipe: Recipe) -> None:
    """nn.Linear → PackedFloatLinear, WeightLinear → PackedWeightLinear, with the GELU that follows unless the recipe
    leaves that fusion out; without compiled kernels PyTorch's are better.

    At int too, for the layers that are kept in float: PyTorch's own threads would go on spinning after their product,
    on the cores that the next kernels want (with a head of 2 outputs it cost a third of the time at batch 1).
    """
    if kernels.status().compiled:
        swap_float(graph)
        if "gelu" not in recipe.without:
            graph.meta[COUNTED] = {"gelu": fuse_gelu(graph)}


def swap_float(graph: fx.GraphModule) -> int:
    """Replaces each nn.Linear of float32 or bfloat16, and each Bf16Linear, by a PackedFloatLinear under the same
    name, each WeightLinear by a PackedWeightLinear. → how many"""
    kinds = (torch.float32, torch.bfloat16)
    found = [(name, module) for name, module in graph.named_modules() if type(module) in (nn.Linear, Bf16Linear)]
    found = [(name, module) for name, module in found if module.weight.dtype in kinds and module.weight.numel()]
    for name, module in found:
        graph.set_submodule(name, PackedFloatLinear(module).eval())
    bytes_ = [(name, module) for name, module in graph.named_modules() if type(module) is WeightLinear]
    for name, module in bytes_:
        graph.set_submodule(name, PackedWeightLinear(module).eval())
    return len(found) + len(bytes_)


def fuse_gelu(graph: fx.GraphModule) -> int:
    """gelu(linear(x)) → linear with activation="gelu" (x), or "gelu_tanh", where a gelu is all that uses any of its
    calls, and all are of one kind. → how many calls"""
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and type(graph.get_submodule(node.target)) in PACKED:
            calls.setdefault(node.target, []).append(node)
    kinds = {name: {_activation(node) for node in nodes} for name, nodes in calls.items()}
    found = {name: activation for name, (activation, *others) in kinds.items() if activation and not others}
    for name, activation in found.items():
        cast(PackedFloatLinear | PackedWeightLinear, graph.get_submodule(name)).activation = activation
        for node in calls[name]:
            gelu = next(iter(node.users))
            gelu.replace_all_uses_with(node)
            graph.graph.erase_node(gelu)
    return sum(len(calls[name]) for name in found)


def _activation(node: fx.Node) -> str | None:
    """→ the gelu that alone reads `node`, by its name in floating.ACTIVATIONS, None for any other reader"""
    users = list(node.users)
    if len(users) != 1 or users[0].target is not aten.gelu.default or users[0].args != (node,):
        return None
    kind = users[0].kwargs.get("approximate", "none")
    return next(name for name, approximate in GELUS.items() if approximate == kind)
