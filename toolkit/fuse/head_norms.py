"""Queries and keys whose heads are normalized, each by itself, before they are turned by position (Qwen3, Gemma 3)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from toolkit.fuse.matching import aten, free_name, parameter
from toolkit.fuse.norm_nodes import eps_of

NORM = aten.rms_norm.default


class HeadNorm(NamedTuple):
    """RMSNorm of each head of d numbers: its weight float32 [d], and what is added to the mean of the squares"""

    weight: Tensor
    eps: float


def unnormed(gm: fx.GraphModule, heads: Any) -> tuple[Any, HeadNorm | None]:
    """heads [.., d] = rms_norm(x, [d], weight, eps) → x and the norm; any others as they are, and None"""
    if not isinstance(heads, fx.Node) or heads.target is not NORM or heads.kwargs:
        return heads, None
    x, over, weight = (*heads.args, None)[:3]
    value: Tensor = x.meta["val"]  # type: ignore[union-attr]
    held = torch.ones(over) if weight is None else parameter(gm, weight)  # type: ignore[arg-type]
    if len(over) != 1 or held is None or heads.meta["val"].dtype != value.dtype:  # type: ignore[arg-type]
        return heads, None
    return x, HeadNorm(held.detach().float(), eps_of(heads))


def norm_of(graph: fx.Graph, norm: HeadNorm | None, heads: int) -> dict[str, Any]:
    """→ what rotary takes by name for `heads` heads that are normalized alike, {} for those that are not"""
    return {} if norm is None else _given(graph, norm.weight.repeat(heads), norm.eps)


def joint_norm(graph: fx.Graph, query: fx.Node, key: fx.Node) -> dict[str, Any] | None:
    """query, key: two rotary → what one of both, their heads side by side, takes by name; None where there is none"""
    if query.kwargs.keys() != key.kwargs.keys() or query.kwargs.get("eps") != key.kwargs.get("eps"):
        return None
    if not query.kwargs:
        return {}
    weights = [parameter(graph.owning_module, node.kwargs["weight"]) for node in (query, key)]  # type: ignore[arg-type]
    return _given(graph, torch.cat(weights), query.kwargs["eps"])  # type: ignore[arg-type]


def _given(graph: fx.Graph, weight: Tensor, eps: Any) -> dict[str, Any]:
    gm: Any = graph.owning_module
    name = free_name(gm, "weight_of_heads")
    gm.register_buffer(name, weight)
    node = graph.get_attr(name)
    node.meta["val"] = weight
    return {"weight": node, "eps": eps}
