"""Which tokens does a mask of the graph show? Decided by what it computes, not by how: it is tried on random masks."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from targets._memory import name_of
from toolkit.fuse.matching import parameter
from toolkit.inputs import KEY, Inputs

log = logging.getLogger(__name__)

MASK = "attention_mask"
LOWEST = -1e4  # an additive mask keeps a position out with this or less
LONGEST = 2048  # how long a sequence is tried, or as long as the model goes: a window of local attention shows there
MOST = 8192  # where the mask is made with a number beyond LONGEST, one as long is tried, up to so many tokens
SCORES = {"mul", "masked_fill", "where", "full", "full_like", "fill", "scalar_tensor"}  # their numbers are no places
UNBOUNDED = 2**31  # larger numbers are no places: an end that is not known, a number for the lowest score
PADDING, CAUSAL = "padding", "causal"
UNTRIED = (RuntimeError, IndexError, ValueError)  # what a mask that cannot be computed from a mask alone raises


def kind_of(gm: fx.GraphModule, mask: fx.Node) -> str | None:
    """→ PADDING if `mask`, boolean or additive, lets every token look at exactly the real tokens of its own sequence,
    CAUSAL if at exactly those of them that do not come later, None for any other

    It is computed for a few attention masks: padding on the right and left, scattered, and as long as the model goes.
    What padding itself looks at is nobody's to read: a token that may look at none gets zeros, as from PyTorch's
    attention under a boolean mask, and not the average of all values, as from numbers as low as finfo.min.
    """
    return next((kind for kind in (PADDING, CAUSAL) if _is(gm, mask, kind)), None)


def window_of(gm: fx.GraphModule, mask: fx.Node) -> int | None:
    """→ how many tokens each looks at by `mask`, itself and padding counted, where it lets it look at exactly the real
    ones of the last so many of its own sequence; None for any other mask"""
    try:
        every = torch.ones(1, _longest(gm, mask), dtype=torch.int64)
        computed = evaluate(gm, mask, every, _earlier(gm), torch.Generator().manual_seed(0))
    except UNTRIED as error:
        log.debug("the mask %s cannot be tried: %s", mask.name, error)
        return None
    last = None if computed is None or computed.dim() != 4 else computed[0, 0, -1]
    if last is None or len(last) != every.shape[1]:
        return None
    window = int((last if last.dtype == torch.bool else last > LOWEST).sum())
    return window if _is(gm, mask, CAUSAL, window) else None


def _is(gm: fx.GraphModule, mask: fx.Node, kind: str, window: int | None = None) -> bool:
    """Whether `mask` says of all that is tried what `kind` does, of the last `window` tokens where that is said"""
    earlier = _earlier(gm)
    try:
        tried = ((evaluate(gm, mask, real, earlier, noise), real.bool()) for real, noise in trials(gm, mask))
        return all(made is not None and _says(made, real, earlier, kind, window) for made, real in tried)
    except UNTRIED as error:
        log.debug("the mask %s cannot be tried: %s", mask.name, error)
        return False


def _earlier(gm: fx.GraphModule) -> int:
    """→ how many tokens come before what is tried, 0 without a cache"""
    inputs = gm.meta.get(KEY)
    return 2 if isinstance(inputs, Inputs) and inputs.past else 0


def trials(gm: fx.GraphModule, mask: fx.Node) -> Iterator[tuple[Tensor, torch.Generator]]:
    """→ attention masks int64 [B, S], each with where other inputs' numbers come from; raises ValueError where `mask`
    may change beyond MOST tokens"""
    generator = torch.Generator().manual_seed(0)
    for batch, sequence, last in ((3, 5, 0), (2, 8, 0), (1, _longest(gm, mask), 1)):  # at last what is farthest off
        real = torch.randint(0, 2, (batch, sequence), generator=generator)
        real[0, : sequence // 2], real[1:2, : sequence // 2] = 1, 0  # every sequence has a token
        real[:, -1] = 1
        real[0, -1] = last
        yield real, generator


def _longest(gm: fx.GraphModule, mask: fx.Node) -> int:
    """→ a length at which `mask` shows all that it does: a window begins to hide tokens where its number says so, or in
    what is held for so many"""
    inputs = gm.meta.get(KEY)
    longest = inputs.longest if isinstance(inputs, Inputs) and inputs.longest else UNBOUNDED
    far = [number for number in _places(gm, mask) if LONGEST - 2 <= number < min(longest, UNBOUNDED)]
    if any(number + 2 > MOST for number in far):
        raise ValueError(f"it may change at {max(far)} tokens, and is tried up to {MOST}")
    held = max((size for size in _sizes(gm, mask) if size <= MOST), default=0)
    return min(longest, max([LONGEST, held, *(number + 2 for number in far)]))


def _places(gm: fx.GraphModule, mask: fx.Node) -> set[int]:
    """→ the whole numbers that `mask` is made with, without their signs, but for those that are scores"""
    found = set[int]()
    for node in needed(mask):
        operator = name_of(node.target) if isinstance(node.target, torch._ops.OpOverload) else ""
        given = () if operator in SCORES else (*node.args, *node.kwargs.values())
        for one in given:
            if isinstance(one, int | float) and not isinstance(one, bool) and float(one).is_integer():
                found.add(abs(int(one)))
        held = parameter(gm, node)
        if held is not None and held.numel() == 1 and not held.is_floating_point():
            found.add(abs(int(held)))
    return found


def _sizes(gm: fx.GraphModule, mask: fx.Node) -> set[int]:
    """→ the sizes of the parameters and buffers that `mask` is made with"""
    return {size for node in needed(mask) if (held := parameter(gm, node)) is not None for size in held.shape}


def _says(mask: Tensor, real: Tensor, earlier: int, kind: str, window: int | None = None) -> bool:
    """Whether `mask` broadcasts to [B, heads, S, P + S] and is, for each real query, True (or 0) at the real keys that
    `kind` shows it, of the last `window` alone where that is said, False (or low) at the others; real [B, P + S],
    earlier: P"""
    batch, sequence = real.shape
    full = (batch, 1, sequence - earlier, sequence)
    wide = mask[(None,) * (4 - mask.dim())]
    if wide.dim() != 4 or any(size not in (1, want) for size, want in zip(wide.shape, full, strict=True)):
        return False
    shown = real[:, None, None].expand(full)
    shown = shown.tril(earlier) if kind == CAUSAL else shown
    shown = shown if window is None else shown.triu(earlier - window + 1)
    wide, shown = (one[:, 0][real[:, earlier:]] for one in (wide.expand(full), shown))
    if wide.dtype == torch.bool:
        return torch.equal(wide, shown)
    return bool((wide[shown] == 0).all() and (wide[~shown] <= LOWEST).all())


def evaluate(
    gm: fx.GraphModule, mask: fx.Node, real: Tensor, earlier: int, generator: torch.Generator
) -> Tensor | None:
    """→ the value of `mask` when attention_mask is `real` [B, P + S], a cache has P = `earlier` tokens, and all other
    inputs are random; None if a module is called"""
    values: dict[fx.Node, Any] = {}
    batch, sequence = real.shape
    inputs = gm.meta.get(KEY)
    past = {one.name: one for one in inputs.past} if isinstance(inputs, Inputs) else {}
    for node in needed(mask):
        if node.op == "placeholder" and node.name in past:
            values[node] = past[node.name].zeros(batch, earlier, real.device)
        elif node.op == "placeholder":
            noise = torch.randint(0, 2, (batch, sequence - earlier), generator=generator)
            values[node] = real if node.name == MASK else noise
        elif node.op == "get_attr":
            owner, _, leaf = str(node.target).rpartition(".")
            values[node] = getattr(gm.get_submodule(owner), leaf)
        elif node.op == "call_function":
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        else:
            return None
    return values[mask] if isinstance(values[mask], Tensor) else None


def needed(node: fx.Node) -> list[fx.Node]:
    """→ `node` and all that it is computed from, in order"""
    found, todo = {node}, [node]
    while todo:
        fresh = [source for source in todo.pop().all_input_nodes if source not in found]
        found.update(fresh)
        todo.extend(fresh)
    return [other for other in node.graph.nodes if other in found]
