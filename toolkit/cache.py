"""A language model whose cache goes in and out: the keys and values of earlier tokens are not computed again."""

import copy
import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from toolkit.inputs import KEY, MASK, PAST, POSITIONS, Inputs, Past, inputs_of

OUTPUT = "past_key_values"  # the field of the model's output
# of a trial: tokens of the longer text, how many of their logits are compared, how many fewer the other text has
TOKENS, NEW, PADDING = 7, 3, 2


class CacheError(RuntimeError):
    """The model has no cache that can be an input of its graph."""


def with_cache(model: nn.Module) -> nn.Module:
    """model: float, a language model of transformers' → the same modules, called with input_ids [B, S], attention_mask
    [B, past + S], position_ids [B, S] and each layer's keys and values [B, heads, past, size], all by name; its output
    has the keys and values of all tokens, flat, in the same order. `capture` makes such a graph of it, for any past, 0
    included. The model itself is not changed. Raises CacheError where it has no such cache.
    """
    takes = inspect.signature(model.forward).parameters
    missing = [name for name in ("input_ids", MASK, OUTPUT, "use_cache") if name not in takes]
    if missing:
        raise CacheError(f"{type(model).__name__} does not take {', '.join(missing)}")
    past = _past_of(model)
    base: Any = type(model)
    others = [name for name in inputs_of(model).names if name not in ("input_ids", MASK)]
    names = ["self", "input_ids", MASK, POSITIONS, *others, *(one.name for one in past)]
    dropped = () if POSITIONS in takes else (POSITIONS,)

    def forward(self: Any, **given: Tensor) -> Any:
        tensors = [given.pop(one.name) for one in past]
        if any(tensor.shape[2] != tensors[0].shape[2] for tensor in tensors):  # to a capture: one size, not one each
            raise CacheError("keys and values of all layers were wanted of the same tokens; got others")
        cache = DynamicCache(zip(tensors[::2], tensors[1::2], strict=True))
        rest = {name: value for name, value in given.items() if name not in dropped}
        found = base.forward(self, **rest, past_key_values=cache, use_cache=True, return_dict=True)
        found[OUTPUT] = tuple(_tensors(found[OUTPUT]))
        return found

    # capture gives tensors the names that the signature has
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made = copy.copy(model)
    made.__class__ = type(base.__name__, (base,), {"forward": forward, PAST: past})
    return made


def past_of(graph: fx.GraphModule) -> tuple[str, ...]:
    """→ the names of the inputs that are a graph's cache, in the order of its output past_key_values; () without one"""
    inputs = graph.meta.get(KEY)
    return tuple(one.name for one in inputs.past) if isinstance(inputs, Inputs) else ()


@torch.no_grad()
def require_same(graph: fx.GraphModule, model: nn.Module) -> None:
    """graph: captured of `model`, of with_cache. Raises CacheError unless two texts of different lengths, padded on the
    left, have the logits through the cache, token by token, that the model gives each alone without one. Those of a
    model that gives NaN or infinity are nothing to go by: whoever reads them says so."""
    try:
        found, wanted = _trial(graph, model)
    except Exception as why:  # whatever a call of them raises is the reason
        raise _unable(model, why) from why
    apart, size = float((found.float() - wanted.float()).norm()), float(wanted.float().norm())
    # rounding alone; a text that is seen otherwise is off by its own size
    if math.isfinite(size) and not apart <= size * torch.finfo(wanted.dtype).eps ** 0.5:
        name = type(model).__name__
        raise CacheError(
            f"{name} with a cache gives logits that are {apart:.2g} apart from those without, of {size:.2g}"
        )


def _trial(graph: fx.GraphModule, model: Any) -> tuple[Tensor, Tensor]:
    """→ the logits [2, NEW, vocabulary] of the last tokens of two texts, with the cache and without"""
    tokens = min(TOKENS, graph.meta[KEY].longest or TOKENS)
    count = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(count, (2, tokens), generator=torch.Generator().manual_seed(0)).to(_device(model))
    mask = torch.ones_like(ids)
    mask[1, :PADDING] = 0
    plain = super(type(model), model).forward
    alone = [plain(input_ids=row[None], attention_mask=torch.ones_like(row)[None], use_cache=False, return_dict=True)
             for row in (ids[0], ids[1, PADDING:])]  # fmt: skip
    found, past = [], dict[str, Tensor]()
    for end in range(tokens - NEW + 1, tokens + 1):
        new = slice(end - 1 if past else 0, end)
        made = graph(input_ids=ids[:, new], attention_mask=mask[:, :end], **past)
        past = dict(zip(past_of(graph), made[OUTPUT], strict=True))
        found.append(made.logits[:, -1])
    return torch.stack(found, 1), torch.stack([one.logits[0, -NEW:] for one in alone])


def _unable(model: nn.Module, why: Exception) -> CacheError:
    reason = str(why).strip().splitlines() or [type(why).__name__]
    return CacheError(f"{type(model).__name__} with a cache can't be called: {reason[0]}")


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@torch.no_grad()
def _past_of(model: Any) -> tuple[Past, ...]:
    """→ what the cache consists of, as a call with two tokens fills it"""
    ids = torch.zeros(1, 2, dtype=torch.int64, device=_device(model))
    cache = DynamicCache()
    given = {"input_ids": ids, MASK: torch.ones_like(ids), OUTPUT: cache}
    try:
        found = model(**given, use_cache=True, return_dict=True)
    except Exception as why:  # whatever the model's own code raises is the reason
        raise _unable(model, why) from why
    if getattr(found, OUTPUT, None) is not cache or not cache.layers:
        raise CacheError(f"{type(model).__name__} returns no cache")
    if any(type(layer) is not DynamicLayer or not layer.is_initialized for layer in cache.layers):
        raise CacheError(f"{type(model).__name__} keeps something else than keys and values of every layer")
    names = [f"past_{kind}_{number}" for number in range(len(cache.layers)) for kind in ("key", "value")]
    tensors = list(_tensors(cache))
    if any(tensor.dim() != 4 or tensor.shape[2] != 2 for tensor in tensors):
        got = list(tensors[0].shape)
        raise CacheError(f"{type(model).__name__} keeps keys {got}, not [batch, heads, tokens, size]")
    return tuple(
        Past(name, tensor.shape[1], tensor.shape[3], tensor.dtype) for name, tensor in zip(names, tensors, strict=True)
    )


def _tensors(cache: Any) -> Iterable[Tensor]:
    for layer in cache.layers:
        yield from (layer.keys, layer.values)
