"""What a captured graph is called with: example inputs to capture it, and the check of every later call."""

import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from targets.base import UsageError

KEY = "opswap_inputs"
MASK, TYPES, POSITIONS = "attention_mask", "token_type_ids", "position_ids"
DEFAULTS = {MASK: 1, TYPES: 0}
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# different, and above 1: equal sizes and ones would be taken for constants
EXAMPLE_BATCH, EXAMPLE_SEQUENCE, EXAMPLE_PAST = 2, 16, 5


@dataclass(frozen=True)
class Past:
    """An input of a graph with a cache: keys or values of earlier tokens, `dtype` [batch, heads, past, size]"""

    name: str
    heads: int
    size: int
    dtype: torch.dtype

    def zeros(self, batch: int, past: int, device: torch.device) -> Tensor:
        return torch.zeros(batch, self.heads, past, self.size, dtype=self.dtype, device=device)


@dataclass(frozen=True)
class Inputs:
    """names: the graph's arguments, in order; ignored: those that the model takes and that change nothing;
    longest: the most tokens that there are positions for (None: no bound); past: those of the names that are a cache,
    the last of them, which the graph returns as its last outputs with the new tokens appended."""

    names: tuple[str, ...]
    ignored: tuple[str, ...]
    longest: int | None
    past: tuple[Past, ...] = ()


PAST = "opswap_past"  # on a model with a cache (cache.py): its Past


def inputs_of(model: nn.Module) -> Inputs:
    """Token types are an input where the model has more than one, and does not make them itself, of where the question
    ends, as BigBird does; where there is one, zeros are all they can be."""
    past: tuple[Past, ...] = getattr(model, PAST, ())
    own: Any = type(model).__base__ if past else model  # what a cache was put around
    takes = inspect.signature(own.forward).parameters
    config = getattr(model, "config", None)
    types = getattr(config, "type_vocab_size", None)
    names = [name for name in ("input_ids", MASK) if name in takes] + [POSITIONS] * bool(past)
    typed = TYPES in takes and types is not None and types > 1 and "question_lengths" not in takes
    ignorable = TYPES not in takes or (types is not None and types <= 1)
    if "input_ids" not in names:
        raise UsageError(f"a model that takes input_ids was wanted; {type(model).__name__} takes {', '.join(takes)}")
    names += [TYPES] * typed + [one.name for one in past]
    return Inputs(tuple(names), (TYPES,) * ignorable, _longest(model), past)


def _longest(model: nn.Module) -> int | None:
    """→ the most tokens that have a position; those up to the padding index, where there is one, are lost"""
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if table is not None and getattr(table, "padding_idx", None) is not None:
            return len(table.weight) - table.padding_idx - 1
    return getattr(getattr(model, "config", None), "max_position_embeddings", None)


def example(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """→ int64 tensors [EXAMPLE_BATCH, EXAMPLE_SEQUENCE] (shorter with few positions), with padding; with a cache, that
    of EXAMPLE_PAST tokens before them"""
    past = EXAMPLE_PAST if inputs.past else 0
    length = max(1, min(EXAMPLE_SEQUENCE, (inputs.longest or EXAMPLE_SEQUENCE + past) - past))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    ids = torch.zeros(EXAMPLE_BATCH, length, dtype=torch.int64, device=device)
    mask = torch.ones(EXAMPLE_BATCH, past + length, dtype=torch.int64, device=device)
    mask[0, -1] = 0
    values = {"input_ids": ids, MASK: mask, TYPES: torch.zeros_like(ids), POSITIONS: torch.zeros_like(ids)}
    values |= {one.name: one.zeros(EXAMPLE_BATCH, past, device) for one in inputs.past}
    return {name: values[name] for name in inputs.names}


def guard(graph: fx.GraphModule, inputs: Inputs) -> None:
    """Makes every call of `graph`, and of its deep copies, go through `complete`; none of them can be pickled."""
    graph.meta[KEY] = inputs
    _install(graph)
    graph._register_deepcopy_hook(_install)


def _install(graph: fx.GraphModule) -> None:
    graph.register_forward_pre_hook(complete, with_kwargs=True)
    type(graph).__reduce_ex__ = _refuse  # type: ignore[method-assign,assignment] # each has a class of its own


def _refuse(graph: fx.GraphModule, protocol: object) -> None:
    """In the place of GraphModule's own, which writes code that it can't read again: operators and packed weights are
    those of this machine and these versions."""
    wanted = f"{type(graph).__name__} is a graph that can't be pickled, being made for this machine"
    raise pickle.PicklingError(f"{wanted}: save its model, quantized (quantize --output) or not, and transform that")


def complete(
    graph: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[()], dict[str, Tensor]]:
    """A forward pre-hook: the arguments as the model takes them → all of the graph's, by name, in order.

    A mask that is left out is all ones, token types are all zeros; of a graph with a cache, positions count the real
    tokens, and there are no earlier tokens. Raises UsageError for an argument that the graph has no use for, for ids or
    types that are no integers, for sizes that differ or are empty, and for more tokens than there are positions.
    Integers of another width, as ONNX Runtime's callers have them, become int64.
    """
    inputs: Inputs = graph.meta[KEY]
    given = _by_name(inputs, args, kwargs)
    if "input_ids" not in given:
        raise UsageError("the graph was called without input_ids; pass int64 [batch, sequence]")
    cache = [one.name for one in inputs.past]
    given = {name: value if name in cache else _as_int64(name, value) for name, value in given.items()}
    ids = given["input_ids"]
    if ids.dim() != 2 or ids.shape[0] < 1 or ids.shape[1] < 1:
        got = list(ids.shape)
        raise UsageError(f"input_ids must be [batch, sequence], neither of them 0; got {got}; reshape them")
    past = _complete_past(inputs, given, ids)
    whole = torch.Size((ids.shape[0], past + ids.shape[1]))
    if inputs.longest is not None and whole[1] > inputs.longest:
        raise UsageError(f"at most {inputs.longest} tokens have positions; got {whole[1]}; split the text")
    for name in inputs.names[: len(inputs.names) - len(cache)]:
        shape = whole if name == MASK else ids.shape
        if name not in given:
            given[name] = _positions(given[MASK], ids) if name == POSITIONS else ids.new_full(shape, DEFAULTS[name])
        elif given[name].shape != shape:
            wanted = "the shape of input_ids" if shape == ids.shape else "a column for each token, past and new"
            got = list(given[name].shape)
            raise UsageError(f"{name} must have {wanted}, {list(shape)}; got {got}; pad both alike")
    return (), {name: given[name] for name in inputs.names}


def _complete_past(inputs: Inputs, given: dict[str, Tensor], ids: Tensor) -> int:
    """Adds the cache of no tokens to `given` where it has none. → its tokens. Raises UsageError for one that is not
    whole, or not as the graph returns it."""
    there = [one.name for one in inputs.past if one.name in given]
    if not there:
        given.update({one.name: one.zeros(ids.shape[0], 0, ids.device) for one in inputs.past})
        return 0
    first = given[there[0]]
    past = first.shape[2] if first.dim() == 4 else 0
    for one in inputs.past:
        want, value = [ids.shape[0], one.heads, past, one.size], given.get(one.name)
        got = None if value is None else list(value.shape)
        if value is None or got != want or value.dtype != one.dtype:
            what = "nothing" if value is None else f"{value.dtype} {got}"
            raise UsageError(f"{one.name} must be {one.dtype} {want}; got {what}; pass the cache as it was returned")
    return past


def _positions(mask: Tensor, ids: Tensor) -> Tensor:
    """mask [B, past + S], ids [B, S] → int64 [B, S]: the real tokens are counted, whatever lies between them"""
    return (mask.ne(0).cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]


def _as_int64(name: str, value: Tensor) -> Tensor:
    """integers of any width → int64; a mask of bools or floats as it came"""
    if value.dtype in INTEGERS:
        return value.to(torch.int64)
    if name != MASK:
        raise UsageError(f"{name} must be integers; got {value.dtype}; pass int64 [batch, sequence]")
    return value


def _by_name(inputs: Inputs, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """→ what was given, by name, without what is None, ignored, or asks for the output that there is"""
    positional = dict(zip(inputs.names, args, strict=False))
    given = {name: value for name, value in {**positional, **kwargs}.items() if value is not None}
    given = {name: value for name, value in given.items() if name not in inputs.ignored}
    if given.get("return_dict") is True:
        del given["return_dict"]
    extra = sorted(given.keys() - set(inputs.names)) + ["more by position"] * (len(args) > len(inputs.names))
    if extra:
        takes = ", ".join(inputs.names)
        raise UsageError(f"the graph takes {takes}; got also {', '.join(extra)}; leave that out")
    return given
