"""Quantized models as folders: int8 weights and scales in safetensors, in the layout of compressed-tensors."""

from toolkit.checkpoint.errors import CheckpointError
from toolkit.checkpoint.loading import copied, kind_of, load, recipe_of
from toolkit.checkpoint.saving import Saved, require_free, save

__all__ = ["CheckpointError", "Saved", "copied", "kind_of", "load", "recipe_of", "require_free", "save"]
