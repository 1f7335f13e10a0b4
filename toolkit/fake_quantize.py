"""Training through the rounding to 8 bits: the captured graph computes with the integers that `quantize` makes of it.

Gradients pass straight through the rounding (Bengio, Léonard, Courville, arXiv 1308.3432): they are those of a linear
layer on the dequantized activations and weights. Ranges are those of each row at each step, so nothing is clipped.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from operators import kernels, quantize_weight, weight_sum
from targets._linear import Activation, QuantizedLinear
from targets.base import UsageError
from toolkit.capture import capture
from toolkit.equalize.stored import Rounding, fitting, how_of
from toolkit.fuse import matching
from toolkit.passes import aten
from toolkit.pipeline import PASSES, run
from toolkit.quantize import linears_of, quantize
from toolkit.raising import EMBEDDING
from toolkit.recipe import Layer, Recipe, Rule
from toolkit.report import CALIBRATED


def fake_quantize(
    model: nn.Module, recipe: Recipe, saved: torch.dtype = torch.float32, origin: str | None = None
) -> fx.GraphModule:
    """model: float32 → its captured graph over the model's own parameters, to train: each linear that `quantize` swaps
    rounds its input and its weight as QuantizedLinear does, after rounding the weight to `saved`. With an
    `origin`, a folder with stored roundings of these weights, the training starts where those end: the parameters
    become what they say.

    Outside of autocast its linears equal the integer graph's, bit for bit. Captured in evaluation mode, it has no
    dropout. Raises UsageError when nothing is quantized, the recipe would not make these integers of the trained
    weights (another scheme than dynamic, 16 bits, clip, rotate), or the graph can't share the parameters,
    CaptureError when the model can't be captured.
    """
    _require_trainable(recipe)
    kernels.load()
    graph = capture(model)
    run(graph, (*PASSES, open_attention))
    floats = linears_of(graph)
    found = fitting(origin, floats, recipe)
    if not quantize(graph, recipe):
        raise UsageError(f"{type(model).__name__} has no linear layer that is quantized: loosen the recipe")
    tables = {_pointer(graph, node.args[0]) for node in graph.graph.find_nodes(op="call_function", target=EMBEDDING)}
    for name, linear in floats.items():
        source = graph.get_submodule(name)
        if isinstance(source, QuantizedLinear):
            if name in found.linears and linear.weight.data_ptr() not in tables:  # a tied head leaves the table alone
                _put(linear, found.linears[name], recipe.layer(name))
            graph.set_submodule(name, FakeQuantizedLinear(linear, source.activation, saved))
    _share_parameters(graph, model)
    graph.meta[CALIBRATED] = found.data
    graph.config = model.config  # type: ignore[assignment]  # what holds for the model holds for the graph
    return graph


def _pointer(graph: fx.GraphModule, node: Any) -> int | None:
    table = matching.parameter(graph, node)
    return None if table is None else table.data_ptr()


@torch.no_grad()
def _put(linear: nn.Linear, rounding: Rounding, layer: Layer) -> None:
    """weight ← q·scale, of which `quantize_weight` makes q again: the largest of each row stays 127 steps; bias ← what
    it lacks is added"""
    row = linear.weight.abs().argmax(1, keepdim=True)
    largest = linear.weight.gather(1, row).sign() * 127 * rounding.scale[:, None]
    linear.weight.copy_((rounding.weight * rounding.scale[:, None]).scatter(1, row, largest))
    if linear.bias is not None and rounding.how == how_of(layer):
        linear.bias.add_(rounding.shift)


def _require_trainable(recipe: Recipe) -> None:
    """Raises UsageError for a recipe that makes other integers than those that are trained with."""
    ones: list[Recipe | Rule] = [recipe, *recipe.rules]
    bits = {bits for one in ones for bits in (one.activation_bits, one.weight_bits)}
    odd = {
        f"the precision {recipe.precision}": recipe.precision != "int",
        "the scheme static": "static" in recipe.schemes(),
        "the scheme weight": "weight" in recipe.schemes(),
        "16 bits": 16 in bits,
        "clip": recipe.clip,
        "rotate": recipe.rotate,
    }
    found = next((what for what, has in odd.items() if has), None)
    if found:
        wanted = "training rounds activations and weights to 8 bits, by the range of each row"
        raise UsageError(f"{wanted}; the recipe has {found}; change it")


class FakeQuantizedLinear(nn.Module):
    """x floating [..., K] → float32 [..., N]: a QuantizedLinear's forward on a float weight [N, K], with gradients."""

    def __init__(self, linear: nn.Linear, activation: Activation, saved: torch.dtype = torch.float32) -> None:
        super().__init__()
        if activation.scale is not None:  # what it clips would need a gradient of 0
            raise UsageError(f"training rounds each row by its own range; got {activation}; use the scheme dynamic")
        self.weight, self.bias = linear.weight, linear.bias
        self.activation, self.saved = activation, saved

    def integers(self) -> tuple[Tensor, Tensor]:
        """→ weight int8 [N, K], scale float32 [N]: what `quantize` makes of the weight once it is saved"""
        return quantize_weight(self.weight.detach().to(self.saved))

    def forward(self, x: Tensor) -> Tensor:
        return _StraightThrough.apply(x, self.weight, self.bias, *self.integers(), self.activation.symmetric)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, {self.activation}, saved={self.saved}"


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, integers: Tensor, scale: Tensor, symmetric: bool
    ) -> Tensor:
        ops = torch.ops.opswap
        q, row_scale, zero = ops.quantize_per_token(x.float(), symmetric)
        total = ops.int8_matmul(q, zero, ops.pack_weight(integers), weight_sum(integers))
        y = (row_scale[:, None] * scale).mul_(total)
        if bias is not None:
            y.add_(bias)
        ctx.save_for_backward(q, row_scale, zero, integers, scale)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.products = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """∂x = g ŵ, ∂weight = gᵀ x̂, ∂bias = Σ g, of the dequantized ŵ = s_w q_w and x̂ = s_x (q_x − z_x)"""
        q, row_scale, zero, integers, scale = ctx.saved_tensors
        rows = gradients[0].reshape(-1, integers.shape[0])
        low = rows.to(ctx.products)  # bfloat16 holds levels, up to 255, exactly; what they are times a scale it rounds
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            weight = (integers * scale[:, None]).to(ctx.products)
            of_x = (low @ weight).to(ctx.dtype).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            levels = q.to(ctx.products).sub_(zero[:, None].to(ctx.products))
            of_weight = (low.t() @ levels.mul_(row_scale[:, None].to(ctx.products))).float()
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias, None, None, None


def open_attention(gm: fx.GraphModule) -> int:
    """scaled_dot_product_attention(q, k, v, mask) → attend(q, k, v, mask), unless it is causal or drops something"""
    found = gm.graph.find_nodes(op="call_function", target=aten.scaled_dot_product_attention.default)
    plain = [node for node in found if not any(node.args[4:]) and not node.kwargs.keys() - {"scale", "attn_mask"}]
    for node in plain:
        node.target, node.args = attend, node.args[:4]
    return len(plain)


def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """[..., S, d] each; mask boolean or additive → softmax(scale·q kᵀ + mask) v. On the CPU PyTorch's fused attention
    has a backward that is slower than this one's products."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    lowest = torch.finfo(scores.dtype).min
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, lowest)
    elif attn_mask is not None:
        scores = scores + attn_mask.clamp(min=lowest).to(scores.dtype)
    with torch.autocast(scores.device.type, enabled=False):  # the kernel sums in float32 in any case
        weights = scores.softmax(-1)
    return weights @ v


def _share_parameters(graph: fx.GraphModule, model: nn.Module) -> None:
    """Puts the model's own parameters in place of the graph's, that lie in the same memory."""
    own = {parameter.data_ptr(): parameter for parameter in model.parameters()}
    for name, parameter in list(graph.named_parameters(remove_duplicate=False)):
        shared = own.get(parameter.data_ptr())
        if shared is None or shared.shape != parameter.shape:
            raise UsageError(f"{type(model).__name__} can't be trained as a graph: {name} is no parameter of the model")
        owner, _, leaf = name.rpartition(".")
        setattr(graph.get_submodule(owner), leaf, shared)
