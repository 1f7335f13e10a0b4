"""How a model is to be transformed, chosen once and never changed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from targets.base import UsageError

PRECISIONS = ("fp", "bf16", "fp16", "int", "fp8")
SCHEMES = ("dynamic", "static")
KEEP = (
    "qa_outputs",
    "*.qa_outputs",
    "classifier*",
    "lm_head",
)  # the heads: small, and their error is the answer's


@dataclass(frozen=True)
class Recipe:
    """precision: one of PRECISIONS; scheme: how activations are quantized; symmetric: whether their zero
    point is fixed in the middle; keep: shell patterns of the linears' names that stay in float.

    Raises UsageError for a precision or scheme that does not exist, or a keep that is a single string.
    """

    precision: str = "fp"
    scheme: str = "dynamic"
    symmetric: bool = True
    keep: tuple[str, ...] = KEEP

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {self.precision!r}; choose one of: {', '.join(PRECISIONS)}")
        if self.scheme not in SCHEMES:
            raise UsageError(f"unknown scheme {self.scheme!r}; choose one of: {', '.join(SCHEMES)}")
        if isinstance(self.keep, str):
            raise UsageError(f"keep must be a tuple of patterns; got the string {self.keep!r}; write ({self.keep!r},)")
        object.__setattr__(self, "keep", tuple(self.keep))

    def keeps(self, name: str) -> str | None:
        """→ the first pattern that keeps the linear called `name` in float, or None"""
        return next((pattern for pattern in self.keep if fnmatchcase(name, pattern)), None)
