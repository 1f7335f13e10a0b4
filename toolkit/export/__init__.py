"""Graphs as files for other engines: ONNX, float or quantized, and PyTorch's pt2."""

from toolkit.export.errors import ExportError

__all__ = ["ExportError"]
