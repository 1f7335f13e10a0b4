"""Recipes: which rule wins, the file they are read from and written to, and what is refused, each in one line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from toolkit import Recipe, Rule, UsageError, report_of, transform
from toolkit.fuse import NAMES
from toolkit.recipe import KEEP, LAYERS, SCHEMES
from toolkit.recipe_file import dump, parse

DOWN = "bert.encoder.layer.1.output.dense"


def test_the_first_rule_that_fits_wins_and_leaves_the_rest_to_the_recipe():
    rules = (Rule("*.1.output.dense", symmetric=True), Rule("*.output.dense", "bf16"), Rule("qa*", "int"))
    recipe = Recipe("int", keep=("*.self.key", "qa_outputs", "*.1.output.*"), rules=rules)
    found = {name: recipe.layer(name) for name in (DOWN, "a.0.output.dense", "qa_outputs", "a.self.key", "a.query")}
    assert [layer.precision for layer in found.values()] == ["fp", "bf16", "int", "fp", "int"]
    assert [layer.symmetric for layer in found.values()] == [True, False, False, False, False]
    assert [layer.why for layer in found.values()] == [
        "the recipe keeps '*.1.output.*'",
        "the recipe's rule for '*.output.dense'",
        "the recipe's rule for 'qa*'",
        "the recipe keeps '*.self.key'",
        None,
    ]


def test_only_some_layers_can_be_named():
    graph = transform(tiny.build("bert"), Recipe("int", rules=(Rule("*.intermediate.dense", "int"), Rule("*", "fp"))))
    assert report_of(graph).swapped == 2 and len(report_of(graph).kept) == 11


def test_the_report_says_in_which_float_and_why():
    rules = (Rule(DOWN, "bf16"), Rule("*.0.output.dense", "fp"))
    report = report_of(transform(tiny.build("bert"), Recipe("int", rules=rules)))
    assert report.swapped == 10 and report.as_json()["kept"] == [
        {"name": DOWN.replace("1", "0"), "precision": "fp", "why": "the recipe's rule for '*.0.output.dense'"},
        {"name": DOWN, "precision": "bf16", "why": f"the recipe's rule for {DOWN!r}"},
        {"name": "qa_outputs", "precision": "fp", "why": "the recipe keeps 'qa_outputs'"},
    ]
    whole = report_of(transform(tiny.build(tiny.TIED), Recipe("bf16")))
    assert {entry["precision"] for entry in whole.kept} == {"bf16"}


def test_a_pattern_for_a_tied_head_is_used():
    report = report_of(transform(tiny.build(tiny.TIED), Recipe("int", rules=(Rule("lm_head", "fp"),))))
    why = "the recipe's rule for 'lm_head'"
    assert [(entry["name"], entry["why"]) for entry in report.kept] == [("lm_head", why)]


PATTERNS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
FLAGS = st.none() | st.booleans()
RULES = st.one_of(
    st.builds(Rule, PATTERNS, st.sampled_from(LAYERS[1:])),
    st.builds(Rule, PATTERNS, st.just("int"), st.none() | st.sampled_from(SCHEMES), FLAGS),
    st.builds(Rule, PATTERNS, st.none(), st.sampled_from(SCHEMES), FLAGS),
)
RECIPES = st.builds(
    Recipe,
    precision=st.just("int"),
    scheme=st.sampled_from(SCHEMES),
    symmetric=st.booleans(),
    keep=st.lists(PATTERNS, max_size=3).map(tuple),
    without=st.lists(st.sampled_from(NAMES), unique=True).map(tuple),
    rules=st.lists(RULES, max_size=4).map(tuple),
)


@given(recipe=RECIPES, comments=st.lists(st.text(st.characters(codec="utf-8", categories=["L", "P", "Zs"]))))
def test_a_file_is_read_back_equal(recipe, comments):
    assert parse(dump(recipe, comments), "r.yaml") == recipe


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("bf16", keep=())], ids=["defaults", "bf16"])
def test_whole_precisions_are_read_back_equal(recipe):
    assert parse(dump(recipe), "r.yaml") == recipe


def test_what_is_left_out_has_its_default_and_what_is_given_wins():
    assert parse("", "r.yaml") == Recipe("int")
    text = "symmetric: false\nwithout: [gelu]\nrules:\n- match: '*.dense'\n  precision: bf16\n"
    recipe = Recipe("int", symmetric=False, without=("gelu",), rules=(Rule("*.dense", "bf16"),))
    assert parse(text, "r.yaml") == recipe and recipe.keep == KEEP
    assert parse(text, "r.yaml", {"without": ()}) == replace(recipe, without=())


REFUSED = {
    "rules: [": r"^r.yaml is no YAML: while parsing",
    "rules:\n- match: *.dense\n  precision: fp": r"^r.yaml is no YAML: .*; a pattern that begins with \* wants quotes$",
    "[" * 2000: r"^r.yaml is no YAML: ",
    "scheme: 2001-99-99": r"^r.yaml is no YAML: month must be in 1..12; ",
    "percentile: " + "9" * 5000: r"^r.yaml is no YAML: Exceeds the limit",
    "percentile: " + "9" * 400: r"^r.yaml: ",
    "activation_bits: 0x" + "f" * 5000: r"^r.yaml is no YAML: Exceeds the limit",
    "- fp": r"^r.yaml must be keys and values \(precision, scheme, .*\); got \['fp'\]$",
    "precison: int": r"^r.yaml has an unknown key 'precison'; known are: precision, scheme, ",
    "keep: qa_outputs": r"^r.yaml: keep must be a list; got 'qa_outputs'$",
    "keep: [1]": r"^r.yaml: keep\[0\] must be text; got 1$",
    "symmetric: 1": r"^r.yaml: symmetric must be true or false; got 1$",
    "precision: 8": r"^r.yaml: precision must be text; got 8$",
    "precision: int4": r"^r.yaml: unknown precision 'int4'; choose one of: ",
    "without: [glue]": r"^r.yaml: unknown fusion 'glue'; choose one of: ",
    "rules: [fp]": r"^r.yaml: rules\[0\] must be keys and values \(match, .*\); got 'fp'$",
    "rules: [{precision: fp}]": r"^r.yaml: rules\[0\] has no match; give it one$",
    "rules: [{match: '*', precison: fp}]": r"^r.yaml: rules\[0\] has an unknown key 'precison'; known are: match, ",
    "rules: [{match: '*', precision: fp16}]": r"^r.yaml: rules\[0\]: the rule for '\*' has an unknown precision 'fp16'",
    "rules: [{match: '*'}]": r"^r.yaml: rules\[0\]: the rule for '\*' says nothing; ",
    "rules: [{match: ''}]": r"^r.yaml: rules\[0\]: a rule wants a shell pattern .*; got ''; ",
    "rules: [{match: '*', precision: fp, symmetric: true}]": r"the rule for '\*' is fp, which has no scheme, zero ",
    "precision: fp\nrules: [{match: '*', precision: fp}]": r"^r.yaml: rules are for .*; the precision is 'fp'$",
    "symmetric: true\nsymmetric: false": r"^r.yaml has the key 'symmetric' twice in what begins at line 1; ",
    "keep: &a [x]\nwithout: *a": r"^r.yaml has an alias",
    "keep: &a [*a]": r"^r.yaml has an alias",
    "keep: !!python/name:os.system": r"^r.yaml is no YAML: could not determine a constructor",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_recipe_is_said_in_one_line(text):
    with pytest.raises(UsageError, match=REFUSED[text]) as refused:
        parse(text, "r.yaml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "wrong", [{"keep": ("*.desne",)}, {"rules": (Rule("*.desne", "fp"),)}, {"rules": (Rule("lm_head", "fp"),)}]
)
def test_a_pattern_that_matches_nothing(wrong):
    said = r"pattern '(\*\.desne|lm_head)' matches none of the 13 linears, such as bert\.encoder\..*; correct it"
    with pytest.raises(UsageError, match=said):
        transform(tiny.build("bert"), Recipe("int", **wrong))


def test_a_static_rule_wants_data():
    with pytest.raises(UsageError, match="the scheme static wants data to calibrate with; got none"):
        transform(tiny.build("bert"), Recipe("int", rules=(Rule("*", scheme="static"),)))
