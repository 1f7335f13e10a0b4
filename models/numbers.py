"""What a model computes has to be numbers, or nothing that is said of it means anything."""

from torch import Tensor

from models.errors import InputError


class NotNumbers(InputError):
    """A model's outputs have a NaN."""


def require_numbers(*outputs: Tensor) -> None:
    """Raises NotNumbers where one of `outputs`, a model's, has a NaN: of a broken weight, or of a sum that the dtype's
    range does not hold."""
    if any(output.isnan().any() for output in outputs):
        raise NotNumbers(
            "the model's outputs are not numbers (NaN): its weights are broken, or too large for this precision; "
            "give another checkpoint, or --precision fp"
        )
