"""Float models from their names: load(name) → (model, tokenizer)."""

from models.errors import InputError
from models.loading import load

__all__ = ["InputError", "load"]
