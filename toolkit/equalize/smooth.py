"""Channels of a LayerNorm's result made alike before they are quantized: its γ and β take it in where they can.

SmoothQuant (Xiao et al. 2022) moves the size of a channel into the weights; the shift that centres a channel is from
Outlier Suppression+ (Wei et al. 2023).
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from targets._linear import float_linear
from toolkit.equalize.observe import Moments
from toolkit.equalize.rounded import How, rounded, rounded_weight
from toolkit.fuse.matching import aten, parameter
from toolkit.quantize import WEIGHT
from toolkit.recipe import Recipe

log = logging.getLogger(__name__)

NORM = aten.layer_norm.default
ALPHAS = tuple(step / 20 for step in range(21))
LEAST = 1e-5  # a channel's size at least, so that one that is always 0 divides nothing by 0


class Change(NamedTuple):
    """x → (x − shift) / scale, both float32 [K]; alpha: that of the scale; error: what the linears make of it, squared
    and summed over the sampled rows, beside that of no change."""

    scale: Tensor
    shift: Tensor
    alpha: float | None
    error: float
    before: float

    def gain(self) -> float:
        """→ dB by which the error is smaller"""
        return 10 * math.log10(self.before / self.error) if self.error else 0.0


def smooth(graph: fx.GraphModule, moments: Mapping[str, Moments], recipe: Recipe) -> dict[str, Change]:
    """y = layer_norm(x, γ, β), W y + b → layer_norm(x, γ / s, (β − z) / s), (W·s) y + (b + W z)

    For the linears in `moments` that round activations; all that read one norm share s and z [K], chosen by `search`.
    Where anything else reads y, as the residual after a norm does in BERT, y stays, and the linears read y / s − z / s
    of it. The graph's own weights are replaced, those of the model that it was captured from are not changed. Linears
    that are called more than once are left alone. → what was done, by the name of the linear
    """
    done: dict[str, Change] = {}
    for norm in graph.graph.find_nodes(op="call_function", target=NORM):
        names = [name for name in _readers(graph, norm, moments) if recipe.layer(name).scheme != WEIGHT]
        gamma, beta = (parameter(graph, source) for source in (*norm.args, None, None)[2:4])
        if not names or gamma is None or beta is None or len(norm.args[1]) != 1:
            continue
        linears = [graph.get_submodule(name) for name in names]
        hows = [recipe.layer(name) for name in names]
        change = search([linear.weight.detach() for linear in linears], moments[names[0]], hows)  # type: ignore
        if change.alpha is None:
            continue
        alone = len(names) == len(norm.users)
        smoothed = _fold(graph, norm, gamma, beta, change) if alone else _beside(graph, norm, change)
        for name, linear in zip(names, linears, strict=True):
            graph.set_submodule(name, _absorb(linear, change))
            _call_of(graph, name).args = (smoothed,)
            done[name] = change
        log.debug("%s: alpha %.2f, error %.1f dB smaller", ", ".join(names), change.alpha, change.gain())
    return done


def search(weights: Sequence[Tensor], seen: Moments, hows: Sequence[How]) -> Change:
    """weights: float [N, K] each, of all that read rows x [K], and how each linear is quantized → the change with the
    least error of x Wᵀ

    scale = max|x − shift|^α / max|w|^(1 − α), for each α of ALPHAS, shift 0 or the middle of each channel's range. No
    change (alpha None) if none of them is better.
    """
    rows, largest = seen.rows, torch.cat(list(weights)).abs().amax(0).clamp(min=LEAST)
    none = torch.ones_like(largest), torch.zeros_like(largest)
    before = _error(weights, rows, *none, hows)
    best = Change(*none, None, before, before)
    for shift in (none[1], (seen.low + seen.high) / 2):
        size = torch.maximum(seen.high - shift, shift - seen.low).clamp(min=LEAST)
        for alpha in ALPHAS:
            scale = size**alpha / largest ** (1 - alpha)
            scale = scale / scale.log().mean().exp()
            error = _error(weights, rows, scale, shift, hows)
            if error < best.error:
                best = Change(scale, shift, alpha, error, before)
    return best


def _error(weights: Sequence[Tensor], rows: Tensor, scale: Tensor, shift: Tensor, hows: Sequence[How]) -> float:
    centred = rows - shift
    ways = {(how.scheme, how.symmetric, how.activation_bits): how for how in hows}
    lows = {way: rounded(centred / scale, how) for way, how in ways.items()}
    total = 0.0
    for weight, how in zip(weights, hows, strict=True):
        low = lows[how.scheme, how.symmetric, how.activation_bits]
        error = centred @ weight.t() - low @ rounded_weight(weight * scale, how).t()
        total += float(error.square().sum(dtype=torch.float64))
    return total


def _readers(graph: fx.GraphModule, norm: fx.Node, names: Collection[str]) -> list[str]:
    """→ the linears among `names` that read `norm` and are called nowhere else"""
    found = [str(user.target) for user in norm.users if user.op == "call_module" and user.target in names]
    return [name for name in found if len(graph.graph.find_nodes(op="call_module", target=name)) == 1]


def _call_of(graph: fx.GraphModule, name: str) -> fx.Node:
    return next(iter(graph.graph.find_nodes(op="call_module", target=name)))


def _fold(graph: fx.GraphModule, norm: fx.Node, gamma: Tensor, beta: Tensor, change: Change) -> fx.Node:
    """→ the layer_norm that takes the place of `norm`, with γ and β of its own"""
    with graph.graph.inserting_before(norm):
        reads = _vectors(graph, norm, gamma / change.scale, (beta - change.shift) / change.scale)
        node = graph.graph.call_function(NORM, (*norm.args[:2], *reads, *norm.args[4:]), norm.kwargs)
    node.meta = dict(norm.meta)
    return node


def _beside(graph: fx.GraphModule, norm: fx.Node, change: Change) -> fx.Node:
    """→ (−z / s) + y · (1 / s), for the y of `norm`: one operator, which the fusions know"""
    with graph.graph.inserting_before(norm):
        scale, shift = _vectors(graph, norm, 1 / change.scale, -change.shift / change.scale)
    with graph.graph.inserting_after(norm):
        node = graph.graph.call_function(aten.addcmul.default, (shift, norm, scale))
    node.meta = dict(norm.meta)
    return node


def _vectors(graph: fx.GraphModule, norm: fx.Node, scale: Tensor, shift: Tensor) -> list[fx.Node]:
    """→ the nodes that read both, new buffers of the graph, where it is being inserted"""
    reads = []
    for kind, value in (("scale", scale), ("shift", shift)):
        name = f"smooth_{norm.name}_{kind}"
        graph.register_buffer(name, value.detach())
        reads.append(graph.graph.get_attr(name))
        reads[-1].meta["val"] = value.detach()
    return reads


def _absorb(linear: nn.Module, change: Change) -> nn.Linear:
    """W x + b → (W·s) x + (b + W z), a linear of its own"""
    weight: Tensor = linear.weight.detach()  # type: ignore
    bias: Tensor | None = linear.bias  # type: ignore
    moved = weight @ change.shift if bias is None else bias.detach() + weight @ change.shift
    return float_linear(weight * change.scale, moved)
