"""What a transformer's layer computes for each token by itself, as one operator: schema, fake and reference.

Its weights and settings come as one tensor, `layer`, that pack_layer made: an operator of sixty arguments would spend
its time on them. They are, in this order, those of linear_int8_add_norm, linear_int8_gelu and linear_int8_add_norm
again (operators/fused.py), each without what the one before hands on: rows, and residuals. Then the weights of a linear
that reads the result, or None for each.

layer: uint8 [bytes]. Words of 8 bytes, in the order of the machine: MAGIC, then each argument, an int or bool as an
int64, a float as a float64, a tensor as two int64, where it begins and how many elements it has, both 0 where there is
none. The tensors follow at multiples of 64, contiguous.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, float32, int8, int32

from operators import fused, validate
from operators.schema import define, empty_rows
from operators.validate import GROUP, PANEL, ceil_div, require

Result = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

MAGIC = int.from_bytes(b"opswl3", "little")
ALIGNMENT = 64
LINEAR = (int8, int32, float32, float32)  # packed, weight_sum, weight_scale, bias
NORM = (float32, float32, float)  # gamma, beta, eps
LEVELS = (bool, float, int, int)  # symmetric, fixed_scale, fixed_zero, rotation
KEEPS = (float32, float32, bool, bool)  # smooth_scale, smooth_shift, keeps_sum, rms
# of the first linear, its norm; the wide linear and its GELU; the second linear, its norm; the linear that reads that
PARTS = (
    LINEAR,
    (*NORM, *LEVELS, *KEEPS),
    (*LINEAR, *LEVELS, bool),
    LINEAR,
    (*NORM, bool, *LEVELS, *KEEPS),
    LINEAR,
)
LAYER = tuple(kind for part in PARTS for kind in part)
WORDS = 1 + sum(2 if isinstance(kind, torch.dtype) else 1 for kind in LAYER)


def pack_layer(arguments: Sequence[Any]) -> Tensor:
    """→ `layer`, of one entry for each of LAYER"""
    words, tensors, end = [struct.pack("=q", MAGIC)], [], 8 * WORDS
    for kind, value in zip(LAYER, arguments, strict=True):
        if not isinstance(kind, torch.dtype):
            words.append(struct.pack("=d" if kind is float else "=q", value))
        elif value is None:
            words.append(struct.pack("=qq", 0, 0))
        else:
            begin = ceil_div(end, ALIGNMENT) * ALIGNMENT
            words.append(struct.pack("=qq", begin, value.numel()))
            end = begin + value.numel() * kind.itemsize
            tensors.append((slice(begin, end), kind, value))
    layer = torch.zeros(end, dtype=torch.uint8)
    layer[: 8 * WORDS] = torch.frombuffer(bytearray(b"".join(words)), dtype=torch.uint8)
    for place, kind, held in tensors:
        layer[place].view(kind).copy_(held.reshape(-1))
    return layer


def unpack_layer(op: str, layer: Tensor) -> list[Any]:
    """pack_layer, backwards: its tensors look into `layer`. Raises ValueError where it is something else."""
    wanted, todo = f"{op}: layer must be what operators.feed_forward.pack_layer made", "pack it again"
    require(layer.dtype == torch.uint8 and layer.dim() == 1, wanted, f"{layer.dtype} of {layer.dim()} dimensions", todo)
    aligned = layer.is_contiguous() and layer.storage_offset() % float32.itemsize == 0
    require(aligned, wanted, "a part of one", todo)
    head = layer[: 8 * WORDS].numpy().tobytes()
    require(len(head) == 8 * WORDS and head[:8] == struct.pack("=q", MAGIC), wanted, "other bytes", todo)
    at, arguments = 8, []
    for kind in LAYER:
        if not isinstance(kind, torch.dtype):
            value = struct.unpack_from("=d" if kind is float else "=q", head, at)[0]
            arguments.append(bool(value) if kind is bool else value)
            at += 8
            continue
        begin, count = struct.unpack_from("=qq", head, at)
        end = begin + count * kind.itemsize
        inside = 8 * WORDS <= begin <= end <= layer.numel() and begin % ALIGNMENT == 0
        require(begin == 0 or inside, wanted, "a damaged one", todo)
        arguments.append(layer[begin:end].view(kind) if begin else None)
        at += 16
    return [_shaped(index, arguments) for index in range(len(arguments))]


def _shaped(index: int, arguments: list[Any]) -> Any:
    """A packed weight in its four dimensions, by the length of weight_sum, which follows it; else as it is."""
    value = arguments[index]
    if LAYER[index] is not int8 or value is None or arguments[index + 1] is None:
        return value
    panels = max(1, ceil_div(arguments[index + 1].numel(), PANEL))
    return value.reshape(panels, -1, PANEL, GROUP) if value.numel() % (panels * PANEL * GROUP) == 0 else value


def feed_forward_int8(
    q: Tensor, scale: Tensor, zero_point: Tensor, residual: Tensor, layer: Tensor, quantize: bool, then: int
) -> Result:
    """rows [M, K], residual float32 [M, N] → first: linear [N, K] + residual, LayerNorm, to rows; wide: linear [L, N],
    GELU, to rows; second: linear [N, L] + what first's LayerNorm gave, LayerNorm → y float32 [M, N]; its rows, of 0
    rows unless `quantize`; z float32 [M, then] of the linear [then, N] that reads them, [0, 0] for 0, without one.

    layer says both again: quantize is true where the rows are a result, not where that linear reads them. A norm that
    keeps its sum gives that in the place of y. Raises ValueError."""
    op = "feed_forward_int8"
    try:
        parts = (fused.linear_int8_add_norm, fused.linear_int8_gelu, fused.linear_int8_rows)
        return compose((q, scale, zero_point), residual, unpack_layer(op, layer), quantize, then, *parts)
    except ValueError as error:  # of one of the parts
        raise ValueError(f"{op}: {str(error).partition(': ')[2]}") from error


def compose(
    rows: tuple[Tensor, Tensor, Tensor],
    residual: Tensor,
    arguments: Sequence[Any],
    quantize: bool,
    then: int,
    add_norm: Callable,
    gelu: Callable,
    linear: Callable,
) -> Result:
    """What feed_forward_int8 gives, by the operators that it is made of; arguments: what pack_layer takes"""
    left = iter(arguments)
    first, norm, wide, second, last, read = ([next(left) for _ in kinds] for kinds in PARTS)
    there = (*first[:3], *norm[:2], *wide[:3], *second[:3], *last[:2])
    wanted = "feed_forward_int8: layer must be what operators.feed_forward.pack_layer made"
    require(all(part is not None for part in there), wanted, "one without a linear or a norm", "pack it again")
    y, *rows = add_norm(*rows, *first, residual, *norm[:3], True, *norm[3:])
    y, *rows = add_norm(*gelu(*rows, *wide), *second, y, *last)
    _check_last(read, bool(last[3]), quantize, then)
    if read[0] is None:
        return y, *rows, y.new_empty((0, 0))
    return y, *(part[:0] for part in rows), linear(*rows, *read)


def _check_last(read: list[Any], made: bool, quantize: bool, then: int) -> None:
    """read: the linear that reads what the last norm gives, made: whether that is rows"""
    there = [part is not None for part in read[:3]]
    require(
        len(set(there)) == 1 and (made or not there[0]) and (there[0] or read[3] is None),
        "feed_forward_int8: the fourth linear must have packed, weight_sum and weight_scale, and rows to read",
        "a part",
        "pass all of them, with quantize, or none",
    )
    require(
        quantize == (made and not there[0]) and then == (read[1].numel() if there[0] else 0),
        "feed_forward_int8: quantize and then must say what the layer makes",
        f"{quantize} and {then}",
        "pass what pack_layer was given",
    )


def fake(
    q: Tensor, scale: Tensor, zero_point: Tensor, residual: Tensor, layer: Tensor, quantize: bool, then: int
) -> Result:
    """feed_forward_int8's shapes and dtypes"""
    validate.check_rows("feed_forward_int8", q, scale, zero_point)
    m, n = q.shape[0], residual.shape[1]
    rows = empty_rows(residual, m if quantize else 0, n)
    return residual.new_empty((m, n)), *rows, residual.new_empty((m if then else 0, then))


define(
    "feed_forward_int8",
    "(Tensor q, Tensor scale, Tensor zero_point, Tensor residual, Tensor layer, bool quantize, int then)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    feed_forward_int8,
    fake,
)
