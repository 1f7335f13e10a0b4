"""How a model is to be transformed, chosen once and never changed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from targets.base import UsageError
from toolkit.fuse import NAMES

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
    point is fixed in the middle; keep: shell patterns of the linears' names that stay in float; without: the
    fusions to leave out, names of toolkit.fuse.NAMES.

    smooth, clip, compensate, correct_bias: the steps of toolkit/equalize, by what each brought; all but clip need
    calibration data, and are left out, as the report says, where there is none.

    Raises UsageError for a precision, scheme or fusion that does not exist, or a keep or without that is a single
    string.
    """

    precision: str = "fp"
    scheme: str = "dynamic"
    symmetric: bool = True
    keep: tuple[str, ...] = KEEP
    without: tuple[str, ...] = ()
    smooth: bool = True
    clip: bool = False
    compensate: bool = True
    correct_bias: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {self.precision!r}; choose one of: {', '.join(PRECISIONS)}")
        if self.scheme not in SCHEMES:
            raise UsageError(f"unknown scheme {self.scheme!r}; choose one of: {', '.join(SCHEMES)}")
        for name, of in (("keep", "patterns"), ("without", "names")):
            value = getattr(self, name)
            if isinstance(value, str):
                raise UsageError(f"{name} must be a tuple of {of}; got the string {value!r}; write ({value!r},)")
            object.__setattr__(self, name, tuple(value))
        unknown = sorted(set(self.without) - set(NAMES))
        if unknown:
            raise UsageError(f"unknown fusion {unknown[0]!r}; choose one of: {', '.join(NAMES)}")

    def keeps(self, name: str) -> str | None:
        """→ the first pattern that keeps the linear called `name` in float, or None"""
        return next((pattern for pattern in self.keep if fnmatchcase(name, pattern)), None)
