"""Channels of what attention gives made alike before they are quantized: the values' linear takes it in, at no cost.

A head's result is a mean of its values, with weights that sum to 1: what scales and shifts a channel of the values
scales and shifts it there. So SmoothQuant's scale and Outlier Suppression+'s shift (toolkit/equalize/smooth.py) need no
norm here.
"""

import logging
import operator
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from toolkit.equalize.observe import Moments
from toolkit.equalize.smooth import Change, absorb, search
from toolkit.fuse.heads import appends_to, mask_of, match_values
from toolkit.fuse.mask import kind_of
from toolkit.fuse.matching import aten, module_of, only_user
from toolkit.inputs import KEY, Inputs
from toolkit.quantize import WEIGHT
from toolkit.recipe import Recipe

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Of a linear [N, K], the rows of its weight that make the values."""

    call: fx.Node
    rows: slice


def smooth_values(graph: fx.GraphModule, moments: Mapping[str, Moments], recipe: Recipe) -> dict[str, Change]:
    """W attention(q, k, V x + c) + b → (W·s) attention(q, k, (V x + c − z) / s) + (b + W z)

    For the linears in `moments` that read an attention alone and round activations, where the values come from a linear
    of their own, or as a part of one (GPT-2), and go nowhere else but into a cache; s and z [K] by `search`, z 0 where
    the mask may be more than the padding's or causal: a token that may look at none has zeros from attention, which no
    scale changes. Linears that are called more than once are left alone, and the model that the graph was captured from
    is not changed. → what was done, by the name of the linear that reads attention
    """
    done: dict[str, Change] = {}
    inputs = graph.meta.get(KEY)
    past = {one.name for one in inputs.past} if isinstance(inputs, Inputs) else set[str]()
    for node in graph.graph.find_nodes(op="call_function", target=aten.scaled_dot_product_attention.default):
        found = match_values(node, past)
        if found is None:
            continue
        reader, source = only_user(found[1]), _source(graph, found[0], node, past)
        if source is None or reader is None or not _is_alone(graph, reader):
            continue
        name = str(reader.target)
        if name not in moments or recipe.layer(name).scheme == WEIGHT:
            continue
        linear: nn.Linear = graph.get_submodule(name)  # type: ignore[assignment]
        mask = mask_of(node)
        may_shift = mask is None or kind_of(graph, mask) is not None
        change = search([linear.weight.detach()], moments[name], [recipe.layer(name)], may_shift)
        if change.alpha is None:
            continue
        made = _scaled(graph.get_submodule(str(source.call.target)), source.rows, change)
        graph.set_submodule(str(source.call.target), made)
        graph.set_submodule(name, absorb(linear, change))
        done[name] = change
        log.debug("%s: alpha %.2f, error %.1f dB smaller", name, change.alpha, change.gain())
    return done


def _source(graph: fx.GraphModule, values: fx.Node, attention: fx.Node, past: Collection[str]) -> Source | None:
    """values: [B, S, H], heads side by side → the linear that makes them for `attention` alone, and for the cache that
    it goes on with; None if none does"""
    here = values
    while here is not attention:
        users = [user for user in here.users if not (user.op == "output" and appends_to(here, past))]
        if len(users) != 1:
            return None
        here = users[0]
    if values.target is not operator.getitem:
        return Source(values, slice(None)) if _is_alone(graph, values) else None
    split: Any = values.args[0]
    if split.target is not aten.split.Tensor or split.args[2:] not in ((-1,), (2,)):
        return None
    linear: Any = split.args[0]
    size: Any = split.args[1]
    part: Any = values.args[1]
    readers = [one for one in list(split.users) if one.args[1] == part]
    if readers != [values] or only_user(linear) is not split or not _is_alone(graph, linear):
        return None
    return Source(linear, slice(part * size, (part + 1) * size))


def _is_alone(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` calls a linear that nothing else calls"""
    same = graph.graph.find_nodes(op="call_module", target=str(node.target))
    return type(module_of(graph, node)) is nn.Linear and len(same) == 1


def _scaled(linear: nn.Module, rows: slice, change: Change) -> nn.Linear:
    """V x + c → (V x + c − z) / s in `rows`, a linear of its own"""
    weight: Tensor = linear.weight.detach().clone()  # type: ignore
    had: Tensor | None = linear.bias  # type: ignore
    bias = weight.new_zeros(len(weight)) if had is None else had.detach().clone()
    weight[rows] /= change.scale[:, None]
    bias[rows] = (bias[rows] - change.shift) / change.scale
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight, made.bias = (nn.Parameter(one, requires_grad=False) for one in (weight, bias))
    return made.eval()
