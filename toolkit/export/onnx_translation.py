"""The operators of onnx_operators.py in ONNX's own (opset 18): the integers of operators/reference.py.

Rows with a NaN or an infinity are not told apart here, as the float model gives none for finite weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op

from operators.validate import TINY, require
from toolkit.export.onnx_operators import OPERATORS

FLOAT, UINT8, INT32 = 1, 2, 6  # onnx.TensorProto.DataType


def _number(value: float) -> Any:
    return op.Constant(value_float=value)


def quantize_static(x: Any, scale: Any, zero: Any, symmetric: bool) -> Any:
    """x → QuantizeLinear → DequantizeLinear; where symmetric, level 0 is not used: x is clipped before"""
    if symmetric:
        x = op.Max(x, op.Mul(scale, _number(-127.0)))
    return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero), scale, zero)


def quantize_token(x: Any, symmetric: bool) -> Any:
    last: Any = op.Constant(value_ints=[-1])
    if symmetric:
        scale = _safe(op.Div(op.ReduceMax(op.Abs(x), last, keepdims=1), _number(127.0)))
        zero = op.Add(op.Mul(scale, _number(0.0)), _number(128.0))
    else:
        low = op.Min(op.ReduceMin(x, last, keepdims=1), _number(0.0))
        high = op.Max(op.ReduceMax(x, last, keepdims=1), _number(0.0))
        scale = _safe(op.Div(op.Sub(high, low), _number(255.0)))
        zero = op.Clip(op.Round(op.Mul(op.Neg(low), op.Reciprocal(scale))), _number(0.0), _number(255.0))
    return _levels(x, scale, zero, int(symmetric), 255), scale, op.Cast(zero, to=INT32)


def quantize_whole(x: Any, symmetric: bool, low: int, high: int, eps: float) -> Any:
    """The numbers of targets/_whole.py"""
    rows = op.Flatten(x, axis=-1)
    least = op.Min(op.ReduceMin(rows, keepdims=1), _number(0.0))
    most = op.Max(op.ReduceMax(rows, keepdims=1), _number(0.0))
    if symmetric:
        scale = op.Max(op.Div(op.Max(op.Neg(least), most), _number((high - low) / 2)), _number(eps))
        zero = op.Add(op.Mul(scale, _number(0.0)), _number(128.0))
    else:
        scale = op.Max(op.Div(op.Sub(most, least), _number(float(high - low))), _number(eps))
        zero = op.Sub(_number(float(low)), op.Round(op.Div(least, scale)))
        zero = op.Clip(zero, _number(float(low)), _number(float(high)))
    return _levels(rows, scale, zero, low, high), scale, op.Cast(zero, to=INT32)


def _safe(scale: Any) -> Any:
    """1 where the inverse of a scale could overflow, as in a row of zeros"""
    return op.Where(op.Less(scale, _number(TINY)), _number(1.0), scale)


def _levels(x: Any, scale: Any, zero: Any, low: int, high: int) -> Any:
    level = op.Add(op.Round(op.Mul(x, op.Reciprocal(scale))), zero)
    return op.Cast(op.Clip(level, _number(float(low)), _number(float(high))), to=UINT8)


def linear_qdq(x: Any, weight: Any, scale: Any, bias: Any = None) -> Any:
    """DequantizeLinear of the weight by output channel → MatMul → Add"""
    y = op.MatMul(x, op.DequantizeLinear(weight, scale, axis=1))
    return y if bias is None else op.Add(y, bias)


def linear_rows(
    q: Any, scale: Any, zero: Any, weight: Any, weight_sum: Any, weight_scale: Any, bias: Any = None
) -> Any:
    """(MatMulInteger(q, weight) − zero · weight_sum) · (scale · weight_scale) + bias"""
    sums = op.Sub(op.MatMulInteger(q, weight), op.Mul(zero, weight_sum))
    y = op.Mul(op.Cast(sums, to=FLOAT), op.Mul(scale, weight_scale))
    return y if bias is None else op.Add(y, bias)


def rounding_error(x: Any, symmetric: bool, fixed_scale: float = 0.0, fixed_zero: int = 128, rotation: int = 0) -> Any:
    """x − what its levels stand for: the second term of an input of 16 bits (operators/terms.py)

    Raises ValueError for rotated rows, which a graph before its lowering has in an operator of their own.
    """
    require(rotation == 0, "rounding_error: a rotation of 0 is wanted in ONNX", rotation, "rotate before it")
    if fixed_scale:
        level: Any = op.Constant(value_int=fixed_zero)
        return op.Sub(x, quantize_static(x, _number(fixed_scale), op.Cast(level, to=UINT8), symmetric))
    q, scale, zero = quantize_token(x, symmetric)
    return op.Sub(x, op.Mul(op.Cast(op.Sub(op.Cast(q, to=INT32), zero), to=FLOAT), scale))


_HERE = (quantize_static, quantize_token, quantize_whole, linear_qdq, linear_rows)
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {getattr(OPERATORS, f.__name__).default: f for f in _HERE}
TABLE[torch.ops.opswap.rounding_error.default] = rounding_error
