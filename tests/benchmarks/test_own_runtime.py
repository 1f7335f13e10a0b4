"""What `python -m benchmarks.own_runtime` asks for; its figures: tests/toolkit/test_quantizers.py."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import own_runtime

DATA = str(Path(__file__).parents[1] / "data" / "squad" / "sample-v1.1.json.gz")
GIVEN = ["--quantizer", "torchao", "--data", DATA, "--limit", "2"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the quantizer is given to calibrate with; it makes nothing, and nothing is asked."""
    seen: list[object] = []

    def equal(graph: object, answer: object, compiled: bool) -> own_runtime.Equal:
        return {name: {"cpu": 2} for name in (own_runtime.ITSELF, own_runtime.COMPILED)[: 1 + compiled]}

    monkeypatch.setattr(own_runtime, "require_possible", lambda recipe, accuracy: None)
    monkeypatch.setattr(own_runtime, "made_elsewhere", lambda model, recipe, data: seen.append(data))
    monkeypatch.setattr(own_runtime, "equal_answers", equal)
    return seen


def test_data_to_calibrate_with_is_for_static_ranges(read: list) -> None:
    static = CliRunner().invoke(own_runtime.main, [*GIVEN, "--calibration", DATA, "--samples", "3"])
    assert static.exit_code == 0, static.output
    rotated = CliRunner().invoke(own_runtime.main, [*GIVEN, "--calibration", DATA, "--rotate"])
    assert rotated.output.startswith("torchao static, rotated: answers of 2 ")
    dynamic = CliRunner().invoke(own_runtime.main, [*GIVEN, "--scheme", "dynamic"])
    said = "torchao dynamic: answers of 2 that equal those of the graph itself, node by node"
    assert dynamic.exit_code == 0 and dynamic.output.split("\n") == [said, "  cpu                         2", ""]
    assert [getattr(data, "samples", None) for data in read] == [3, 32, None]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ([], 1, "give --calibration FILE"),
        (["--scheme", "dynamic", "--calibration", DATA], 2, "--calibration is for --scheme static: leave it out"),
        (["--scheme", "dynamic", "--samples", "3"], 2, "--samples is for --scheme static: leave it out"),
    ],
    ids=["static without", "dynamic with", "samples"],
)
def test_what_it_lacks_or_would_pass_over_is_said(read: list, given: list[str], code: int, said: str) -> None:
    refused = CliRunner().invoke(own_runtime.main, [*GIVEN, *given])
    assert refused.exit_code == code and said in refused.output and not read


@pytest.mark.parametrize(
    ("given", "scheme"),
    [([], "static"), (["--recipe"], "dynamic"), (["--recipe", "--scheme", "static"], "static")],
    ids=["none", "the recipe's", "the option's"],
)
def test_a_recipe_says_what_stays_in_float_and_options_win(given: list[str], scheme: str, tmp_path: Path) -> None:
    place = tmp_path / "kept.yaml"
    place.write_text("scheme: dynamic\nkeep: ['*.output.dense']\n")
    chosen, file = "static" if "--scheme" in given else None, str(place) if given else None
    recipe = own_runtime.recipe_of("torchao", chosen, file)
    assert (recipe.precision, recipe.scheme, recipe.quantizer) == ("int", scheme, "torchao")
    assert (recipe.layer("encoder.output.dense").precision == "fp") == bool(given)
    assert not recipe.rotate and own_runtime.recipe_of("torchao", chosen, file, rotate=True).rotate
