"""How a model is to be transformed, chosen once and never changed."""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from targets.base import UsageError
from toolkit.fuse import NAMES
from toolkit.quantizers import NAMES as QUANTIZERS

PRECISIONS = ("fp", "bf16", "fp16", "int", "fp8")
SCHEMES = ("dynamic", "static", "weight")
LAYERS = ("int", "bf16", "fp")  # what a single linear of an int graph can be
BITS = (8, 16)
ATTENTION = ("auto", "fast", "fp")
RANGES = ("minmax", "percentile", "mse", "entropy")
PERCENTILES = (99.9, 99.9999)
# the heads of question answering and of classes: small, and their error is the answer's
KEEP = ("qa_outputs", "*.qa_outputs", "classifier*", "score")
LM_HEAD = "lm_head"  # of language models: large, and int8 costs their loss nothing; at fp8 it stays in float


@dataclass(frozen=True)
class Rule:
    """What holds for the linears whose name fits the shell pattern `match`: precision: one of LAYERS; scheme,
    symmetric, activation_bits, weight_bits: as in Recipe, for linears in int. None leaves it to the recipe.

    Raises UsageError for a value that does not exist, and for a rule that says nothing.
    """

    match: str
    precision: str | None = None
    scheme: str | None = None
    symmetric: bool | None = None
    activation_bits: int | None = None
    weight_bits: int | None = None

    def __post_init__(self) -> None:
        what = f"the rule for {self.match!r}"
        if not self.match or not isinstance(self.match, str):
            raise UsageError(f"a rule wants a shell pattern to match names of linears; got {self.match!r}; give one")
        for name, value, known in (("precision", self.precision, LAYERS), ("scheme", self.scheme, SCHEMES)):
            if value is not None and value not in known:
                raise UsageError(f"{what} has an unknown {name} {value!r}; choose one of: {', '.join(known)}")
        if self.symmetric not in (None, True, False):
            raise UsageError(f"{what} wants symmetric to be true or false; got {self.symmetric!r}")
        _require_bits(what, self.activation_bits, self.weight_bits, (None, *BITS))
        how = (self.scheme, self.symmetric, self.activation_bits, self.weight_bits)
        rounded = any(value is not None for value in how)
        if self.precision is None and not rounded:
            raise UsageError(f"{what} says nothing; give it a precision, a scheme, symmetric or bits")
        if self.precision in ("bf16", "fp") and rounded:
            raise UsageError(f"{what} is {self.precision}, which has no scheme, zero point or bits; leave those out")


@dataclass(frozen=True)
class Layer:
    """What a recipe wants of one linear. why: which of its patterns chose the precision, None if none did."""

    precision: str
    scheme: str
    symmetric: bool
    activation_bits: int
    weight_bits: int
    why: str | None


@dataclass(frozen=True)
class Recipe:
    """precision: one of PRECISIONS; scheme: how activations are quantized, weight: not at all; symmetric: whether
    their zero point is fixed in the middle; keep: shell patterns of the linears' names that stay in float, at fp8
    LM_HEAD besides; without: the fusions to leave out, names of toolkit.fuse.NAMES; rules: what holds for single
    linears of an int graph, where the first that fits a name wins, and what it leaves open (keep too) is as for all
    others. ranges: how calibration finds the range of a static scale, one of RANGES; percentile: of the values inside,
    for the ranges of that name, within PERCENTILES; both defaults lost the least F1 with the embedded model on SQuAD
    v1.1's development set (0.00, and minmax 0.21; docs/quantization.md has all). smooth, rotate, clip,
    compensate, correct_bias: the steps of toolkit/equalize, by what each brought and costs; all but rotate and clip
    need calibration data, compensate and correct_bias only where `calibrate` left nothing with the model, and are left
    out, as the report says, where there is none.
    quantizer: who quantizes, one of toolkit.quantizers.NAMES; one that isn't native goes by scheme, keep and rules of
    precision fp.
    activation_bits, weight_bits: 8, or 16 as the sum of two terms of 8 bits (toolkit/terms.py): all products stay int8,
    twice as many for either, three times for both. attention: one of ATTENTION; fast may be bfloat16, auto is fp at
    precision fp, and for graphs of other quantizers (toolkit/elsewhere.py), else fast.

    Raises UsageError for a precision, scheme, fusion or quantizer that does not exist, a keep or without that is a
    single string, rules or 16 bits for another precision than int, and 16 bits for the scheme weight.
    """

    precision: str = "fp"
    scheme: str = "dynamic"
    symmetric: bool = False
    keep: tuple[str, ...] = KEEP
    without: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    ranges: str = "percentile"
    percentile: float = 99.999
    smooth: bool = True
    rotate: bool = False
    clip: bool = False
    compensate: bool = True
    correct_bias: bool = True
    quantizer: str = "native"
    activation_bits: int = 8
    weight_bits: int = 8
    attention: str = "auto"

    def __post_init__(self) -> None:
        if self.attention not in ATTENTION:
            raise UsageError(f"unknown attention {self.attention!r}; choose one of: {', '.join(ATTENTION)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {self.precision!r}; choose one of: {', '.join(PRECISIONS)}")
        if self.scheme not in SCHEMES:
            raise UsageError(f"unknown scheme {self.scheme!r}; choose one of: {', '.join(SCHEMES)}")
        if self.quantizer not in QUANTIZERS:
            raise UsageError(f"unknown quantizer {self.quantizer!r}; choose one of: {', '.join(QUANTIZERS)}")
        if self.ranges not in RANGES:
            raise UsageError(f"unknown ranges {self.ranges!r}; choose one of: {', '.join(RANGES)}")
        least, most = PERCENTILES
        if not least <= self.percentile <= most:
            raise UsageError(f"percentile must lie in {least}..{most}; got {self.percentile}; 99.999 is the default")
        for name, of in (("keep", "patterns"), ("without", "names")):
            value = getattr(self, name)
            if isinstance(value, str):
                raise UsageError(f"{name} must be a tuple of {of}; got the string {value!r}; write ({value!r},)")
            object.__setattr__(self, name, tuple(value))
        unknown = sorted(set(self.without) - set(NAMES))
        if unknown:
            raise UsageError(f"unknown fusion {unknown[0]!r}; choose one of: {', '.join(NAMES)}")
        _require_bits("the recipe", self.activation_bits, self.weight_bits, BITS)
        object.__setattr__(self, "rules", tuple(self.rules))
        if self.rules and self.precision != "int":
            raise UsageError(f"rules are for single linears of an int graph; the precision is {self.precision!r}")
        self._require_terms()

    def _require_terms(self) -> None:
        """Raises UsageError for 16 bits where no linear would have two terms."""
        ones: list[Recipe | Rule] = [self, *(rule for rule in self.rules if rule.precision in (None, "int"))]
        for one in ones:
            bits = one.activation_bits or self.activation_bits, one.weight_bits or self.weight_bits
            what = f"the rule for {one.match!r}" if isinstance(one, Rule) else "the recipe"
            if 16 in bits and self.precision != "int":
                raise UsageError(f"{what} has 16 bits, which are for the precision int; got {self.precision!r}")
            if 16 in bits and (one.scheme or self.scheme) == "weight":
                raise UsageError(
                    f"{what} has the scheme weight and 16 bits, two terms of 8; give it 8, or another scheme"
                )

    def layer(self, name: str) -> Layer:
        """→ what the linear called `name` is to be: the first rule that fits, then keep, then the recipe's own"""
        rule = next((rule for rule in self.rules if fnmatchcase(name, rule.match)), None)
        keep = (*self.keep, LM_HEAD) if self.precision == "fp8" else self.keep
        kept = next((pattern for pattern in keep if fnmatchcase(name, pattern)), None)
        precision, why = ("fp", f"the recipe keeps {kept!r}") if kept else (self.precision, None)
        if rule is None:
            return Layer(precision, self.scheme, self.symmetric, self.activation_bits, self.weight_bits, why)
        if rule.precision is not None:
            precision, why = rule.precision, f"the recipe's rule for {rule.match!r}"
        symmetric = self.symmetric if rule.symmetric is None else rule.symmetric
        bits = rule.activation_bits or self.activation_bits, rule.weight_bits or self.weight_bits
        return Layer(precision, rule.scheme or self.scheme, symmetric, *bits, why)

    def precise_attention(self) -> bool:
        """→ whether attention must stay in float32"""
        return self.attention == "fp" or (self.attention == "auto" and self.precision == "fp")

    def is_static(self) -> bool:
        """Whether any linear may be static, which takes calibration"""
        return "static" in self.schemes()

    def schemes(self) -> set[str]:
        """→ those that linears may have"""
        return {self.scheme, *(rule.scheme for rule in self.rules if rule.scheme)}

    def require_matches(self, names: Collection[str]) -> None:
        """Raises UsageError for a pattern that matches no linear of a model that has those called `names`.

        The patterns of KEEP, and LM_HEAD, which was one of them, are for any model and may match nothing.
        """
        kept = [pattern for pattern in self.keep if pattern not in (*KEEP, LM_HEAD)]
        for pattern in [*(rule.match for rule in self.rules), *kept]:
            if not any(fnmatchcase(name, pattern) for name in names):
                some = f", such as {min(names)}" if names else ""
                raise UsageError(
                    f"the recipe's pattern {pattern!r} matches none of the {len(names)} linears{some}; correct it"
                )


def _require_bits(what: str, activation: int | None, weight: int | None, known: tuple[int | None, ...]) -> None:
    for name, bits in (("activation_bits", activation), ("weight_bits", weight)):
        if bits not in known or isinstance(bits, bool):
            raise UsageError(f"{what} has {name} {bits!r}; choose 8, or 16 for two terms of 8")
