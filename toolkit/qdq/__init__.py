"""Q/DQ graphs, the standard form that other quantizers make: quantize and dequantize around float operators."""

from toolkit.qdq.read import read_qdq

__all__ = ["read_qdq"]
