"""The layers of a quantized graph ↔ tensors by the names that compressed-tensors gives them, and a word on each."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators.validate import ROTATIONS
from targets._bf16 import Bf16Linear
from targets._fused import RowsLinear
from targets._linear import MIDDLE, Activation, QuantizedLinear, float_linear
from targets._weight import WeightLinear
from targets._whole import QuantizeWhole
from toolkit.checkpoint.errors import CheckpointError
from toolkit.rotated import Rotated

Tensors = dict[str, Tensor]
INT8, WEIGHT, FLOAT, BF16, ROTATED = "int8", "weight", "float", "bf16", "rotated"
PACK = 4  # int8 weights in an int32


def kind_of(name: str, layer: nn.Module) -> dict[str, Any]:
    """→ what `build` needs to know besides the tensors. Raises CheckpointError for a layer of another class."""
    if type(layer) is QuantizedLinear and not layer.activation.rotation:  # of a fused graph: it would be lost
        return {"kind": INT8, "symmetric": layer.activation.symmetric, "static": layer.activation.scale is not None}
    if type(layer) is WeightLinear:
        return {"kind": WEIGHT}
    if type(layer) is Bf16Linear:
        return {"kind": BF16}
    if type(layer) is nn.Linear:
        return {"kind": FLOAT}
    if type(layer) is Rotated:
        return {"kind": ROTATED, "block": layer.block}
    if type(layer) in (RowsLinear, QuantizeWhole):
        raise CheckpointError(
            f"{name} rounds by the range of the whole tensor, as other quantizers' dynamic graphs do, which no "
            "checkpoint holds: give the scheme static"
        )
    raise CheckpointError(
        f"the layer {name} is a {type(layer).__name__}, which no checkpoint holds: save before lowering"
    )


def tensors_of(layer: nn.Module) -> Tensors:
    """int8: weight int8 [N, K], weight_scale float32 [N, 1], bias float32 [N], and where activations have one scale
    input_scale float32 [1], input_zero_point int8 [1] (asymmetric); weight: as pack makes it, weight_scale and bias;
    float, bf16: weight and bias; rotated: none"""
    if isinstance(layer, QuantizedLinear):
        found = {"weight": layer.weight, "weight_scale": layer.scale[:, None], "bias": layer.bias}
        how = layer.activation
        if how.scale is not None:
            found["input_scale"] = torch.tensor([how.scale], dtype=torch.float32)
            if not how.symmetric:  # ours is of unsigned bytes
                found["input_zero_point"] = torch.tensor([how.zero_point - MIDDLE], dtype=torch.int8)
    elif isinstance(layer, WeightLinear):
        found = {**pack(layer.weight), "weight_scale": layer.scale[:, None], "bias": layer.bias}
    elif isinstance(layer, Rotated):
        found = {}
    else:
        linear: Any = layer
        found = {"weight": linear.weight, "bias": linear.bias}
    return {name: tensor.detach() for name, tensor in found.items() if tensor is not None}


def pack(weight: Tensor) -> Tensors:
    """int8 [N, K] → weight_packed int32 [N, ceil(K/4)], weight_shape int64 [2]: the layout pack-quantized, bytes that
    count from -128, the first lowest, zeros at the end"""
    unsigned = weight.view(torch.uint8).bitwise_xor(128)  # flipping the top bit adds 128
    padded = F.pad(unsigned, (0, -weight.shape[1] % PACK)).contiguous()
    return {"weight_packed": padded.view(torch.int32), "weight_shape": torch.tensor(weight.shape)}


def unpack(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """What `pack` made of the weight of the layer `name` → int8 [N, K]. Raises CheckpointError."""
    packed, shape = (tensors.get(f"{name}.{leaf}") for leaf in ("weight_packed", "weight_shape"))
    n, k = shape.tolist() if shape is not None and shape.numel() == 2 else (0, 0)
    whole = packed is not None and packed.dtype == torch.int32 and list(packed.shape) == [n, -(-k // PACK)]
    if packed is None or not whole:
        raise CheckpointError(f"the checkpoint has no whole weight_packed for the layer {name}: copy the folder again")
    return packed.contiguous().view(torch.uint8)[:, :k].bitwise_xor(128).view(torch.int8).contiguous()


def build(name: str, kind: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """`kind_of` and `tensors_of` of a layer → the layer. Raises CheckpointError for tensors that are not such."""
    if kind["kind"] == ROTATED:
        return _rotated(name, kind["block"])
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None and f"{name}.weight_packed" in tensors:
        weight = unpack(name, tensors)
    if weight is None or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise CheckpointError(f"the checkpoint has no whole weight for the layer {name}: copy the folder again")
    if kind["kind"] == INT8:
        scale = tensors.get(f"{name}.weight_scale")
        return int8(name, weight, scale, bias, _activation(name, kind, tensors))
    if kind["kind"] == WEIGHT:
        made = int8(name, weight, tensors.get(f"{name}.weight_scale"), bias, Activation())
        return WeightLinear(made.weight, made.scale, made.bias)
    if kind["kind"] in (FLOAT, BF16):
        linear = float_linear(weight, bias)
        return Bf16Linear(linear) if kind["kind"] == BF16 else linear
    raise CheckpointError(f"the layer {name} is of an unknown kind {kind['kind']!r}: quantize the model again")


def _rotated(name: str, block: Any) -> Rotated:
    if block not in ROTATIONS[1:]:
        raise CheckpointError(f"{name} rotates by blocks of {block!r}, not a power of 2: copy the folder again")
    return Rotated(block)


def _activation(name: str, kind: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Activation:
    """A scale of their own, or the layer's one, as compressed-tensors stores it: zero points are of signed bytes"""
    symmetric = bool(kind["symmetric"])
    if not kind["static"]:
        return Activation(symmetric)
    scale, zero = tensors.get(f"{name}.input_scale"), tensors.get(f"{name}.input_zero_point")
    if scale is None or scale.numel() != 1 or (zero is not None and zero.numel() != 1):
        raise CheckpointError(f"the layer {name} wants one input_scale and one zero point: copy the folder again")
    point = MIDDLE if zero is None else int(zero.item()) + MIDDLE
    try:
        return Activation(symmetric, float(scale.item()), point)
    except ValueError as error:
        raise CheckpointError(f"the inputs of {name} can't be quantized as saved ({error})") from error


def int8(
    name: str, weight: Tensor, scale: Tensor | None, bias: Tensor | None, activation: Activation
) -> QuantizedLinear:
    """weight int8 [N, K], scale [N, 1] or one number for all channels, bias [N] → QuantizedLinear"""
    if weight.dtype != torch.int8 or scale is None or scale.numel() not in (1, weight.shape[0]):
        raise CheckpointError(f"the layer {name} wants int8 weights with a scale a channel: quantize the model again")
    if not bool(torch.isfinite(scale).all()):
        raise CheckpointError(f"the layer {name} has a scale that is not finite: copy the folder again")
    flat = scale.reshape(-1).to(torch.float32).expand(weight.shape[0]).contiguous()
    wide = None if bias is None else bias.to(torch.float32)
    return QuantizedLinear(weight, flat, wide, activation)
