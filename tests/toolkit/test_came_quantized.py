"""Q/DQ graphs handed to transform: they stay as they are quantized, the report says how, and what a recipe says against
that is refused. tests/toolkit/test_qdq.py reads them; here they are this project's own, written to a file and back."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from torch import fx

from tests import tiny
from tests.checks import assert_sqnr
from toolkit import Recipe, Rule, UsageError, report_of, transform
from toolkit.export import pt2
from toolkit.pipeline import quantized

QUERY = "bert.encoder.layer.0.attention.self.query"
WIDE = "*.intermediate.dense"
INT = Recipe("int")


@cache
def came(recipe: Recipe) -> fx.GraphModule:
    model = tiny.build("bert")
    made = quantized(model, recipe, [tiny.inputs(model, 3, 17)] if recipe.is_static() else None)
    with TemporaryDirectory() as folder:
        pt2.write(made, Path(folder) / "made.pt2", {})
        return pt2.read(Path(folder) / "made.pt2")


DYNAMIC, STATIC = INT, Recipe("int", scheme="static")
MIXED = Recipe("int", rules=(Rule(WIDE, "fp"),))


@pytest.mark.parametrize("made", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_the_report_has_the_scheme_that_the_graph_has(made: Recipe) -> None:
    report = report_of(transform(came(made), INT, "customcpu"))
    assert (report.scheme, report.quantizer, report.swapped) == (made.scheme, "elsewhere", 12)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("int", rules=(Rule(WIDE, "fp"), Rule("*.query", "int"))),
        Recipe("int", keep=(WIDE, "qa_outputs")),
        Recipe("int", keep=()),
    ],
    ids=["rules", "keep", "nothing kept"],
)
def test_a_recipe_may_say_what_is_so_already(recipe: Recipe) -> None:
    report = report_of(transform(came(MIXED), recipe, "customcpu"))
    assert report.swapped == 10 and len(report.kept) == 3


@pytest.mark.parametrize(
    "recipe, line",
    [
        (Recipe("int", keep=("*.query",)), f"has {QUERY} in int; the recipe keeps '\\*.query', in fp; leave that out"),
        (Recipe("int", rules=(Rule(QUERY, "fp"),)), f"has {QUERY} in int; the recipe's rule for '{QUERY}', in fp"),
        (Recipe("int", rules=(Rule(QUERY, "bf16"),)), "takes rules of precision fp or int alone"),
        (Recipe("int", rules=(Rule(QUERY, scheme="weight"),)), "takes rules of precision fp or int alone"),
        (Recipe("int", rules=(Rule("qa_outputs", "int"),)), "has qa_outputs in fp; the recipe's rule for 'qa_outputs'"),
        (Recipe("int", rules=(Rule("*.quary", "fp"),)), "pattern '\\*.quary' matches none of the 13 linears"),
        (Recipe("int", scheme="static"), "stays dynamic, 8 bits; got static, 8 and 8 bits; leave those out"),
        (Recipe("int", activation_bits=16), "stays dynamic, 8 bits; got dynamic, 16 and 8 bits"),
        (Recipe("int", symmetric=True), "goes by settings of its own; got symmetric True; leave that out"),
        (Recipe("int", smooth=False), "goes by settings of its own; got smooth False; leave that out"),
        (Recipe("int", compensate=False), "goes by settings of its own; got compensate False; leave that out"),
    ],
    ids=[
        "keep",
        "rule",
        "bf16",
        "rule's scheme",
        "int for float",
        "no such linear",
        "scheme",
        "bits",
        "symmetric",
        "smooth",
        "compensate",
    ],
)
def test_what_a_recipe_says_against_the_graph_is_refused(recipe: Recipe, line: str) -> None:
    with pytest.raises(UsageError, match=line) as refused:
        transform(came(DYNAMIC), recipe, "customcpu")
    assert "\n" not in str(refused.value)


def test_data_to_calibrate_with_is_refused() -> None:
    for recipe in (INT, STATIC):
        with pytest.raises(UsageError, match="takes no calibration data; some came; leave that out"):
            transform(came(STATIC), recipe, data=[tiny.inputs(tiny.build("bert"), 3, 17)])
    assert report_of(transform(came(STATIC), STATIC)).swapped == 12


def test_what_the_graph_has_in_float_is_not_approximate() -> None:
    """customcpu's linears in float take a GELU with them, which is off by up to 4e-5: not in such a graph."""
    model = tiny.build("bert")
    given = tiny.inputs(model, 3, 17)
    real = given["attention_mask"].bool()
    want, have = (transform(came(MIXED), INT, target) for target in ("cpu", "customcpu"))
    assert_sqnr(have(**given)[0][real], want(**given)[0][real], 100.0)
    assert not report_of(have).fused.get("gelu")
    assert report_of(transform(model, MIXED, "customcpu")).fused["gelu"] == 2


def test_copies_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    """torch's own, of what it does itself when it copies how a graph is called."""
    made = came(DYNAMIC)
    recwarn.clear()
    transform(made, Recipe("int"), "customcpu")
    assert not [one for one in recwarn if issubclass(one.category, FutureWarning)]
