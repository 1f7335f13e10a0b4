"""Quantized models as folders: int8 weights and scales in safetensors, in the layout of compressed-tensors."""

from toolkit.checkpoint.errors import CheckpointError
from toolkit.checkpoint.floats import as_floats
from toolkit.checkpoint.foreign import Foreign, read
from toolkit.checkpoint.loading import adopt, copied, kind_of, load, recipe_of
from toolkit.checkpoint.saving import Saved, require_free, save

__all__ = [
    "CheckpointError",
    "Foreign",
    "Saved",
    "adopt",
    "as_floats",
    "copied",
    "kind_of",
    "load",
    "read",
    "recipe_of",
    "require_free",
    "save",
]
