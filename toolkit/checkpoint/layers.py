"""The layers of a quantized graph ↔ tensors by the names that compressed-tensors gives them, and a word on each."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from targets._linear import MIDDLE, Activation, QuantizedLinear
from toolkit.checkpoint.errors import CheckpointError

Tensors = dict[str, Tensor]
INT8, FLOAT = "int8", "float"


def kind_of(name: str, layer: nn.Module) -> dict[str, Any]:
    """→ what `build` needs to know besides the tensors. Raises CheckpointError for a layer of another class."""
    if type(layer) is QuantizedLinear:
        return {"kind": INT8, **asdict(layer.activation)}
    if type(layer) is nn.Linear:
        return {"kind": FLOAT}
    raise CheckpointError(
        f"the layer {name} is a {type(layer).__name__}, which no checkpoint holds: save before lowering"
    )


def tensors_of(layer: nn.Module) -> Tensors:
    """int8: weight int8 [N, K], weight_scale float32 [N, 1], bias float32 [N]; float: weight and bias"""
    if isinstance(layer, QuantizedLinear):
        found = {"weight": layer.weight, "weight_scale": layer.scale[:, None], "bias": layer.bias}
    else:
        assert isinstance(layer, nn.Linear)
        found = {"weight": layer.weight, "bias": layer.bias}
    return {name: tensor.detach() for name, tensor in found.items() if tensor is not None}


def build(name: str, kind: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """`kind_of` and `tensors_of` of a layer → the layer. Raises CheckpointError for tensors that are not such."""
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise CheckpointError(f"the checkpoint has no whole weight for the layer {name}: copy the folder again")
    if kind["kind"] == INT8:
        return int8(name, weight, tensors.get(f"{name}.weight_scale"), bias, kind)
    if kind["kind"] == FLOAT:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        linear.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            linear.bias = nn.Parameter(bias, requires_grad=False)
        return linear
    raise CheckpointError(f"the layer {name} is of an unknown kind {kind['kind']!r}: quantize the model again")


def int8(name: str, weight: Tensor, scale: Tensor | None, bias: Tensor | None, kind: Mapping[str, Any]) -> nn.Module:
    """weight int8 [N, K], scale [N, 1] or one number for all channels, bias [N] → QuantizedLinear"""
    if weight.dtype != torch.int8 or scale is None or scale.numel() not in (1, weight.shape[0]):
        raise CheckpointError(f"the layer {name} wants int8 weights with a scale a channel: quantize the model again")
    if not bool(torch.isfinite(scale).all()):
        raise CheckpointError(f"the layer {name} has a scale that is not finite: copy the folder again")
    flat = scale.reshape(-1).to(torch.float32).expand(weight.shape[0]).contiguous()
    wide = None if bias is None else bias.to(torch.float32)
    return QuantizedLinear(
        weight, flat, wide, Activation(bool(kind["symmetric"]), kind.get("scale"), int(kind.get("zero_point", MIDDLE)))
    )
