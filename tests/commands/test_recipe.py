"""--recipe: what the file says, what the command line says over it, and what is refused."""

import pytest

PASSAGE = ("ask", "--context", "The mill stands on the river Test.", "--question", "Where does the mill stand?")
RECIPE = """\
without: [gelu]
rules:
- match: "*.5.output.dense"
  precision: bf16
- match: "*.0.*.self.*"
  precision: fp
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_a_recipe_says_precision_and_layers(cli, recipe) -> None:
    found = cli("--target", "customcpu", "--recipe", recipe, "--json", *PASSAGE).json
    precisions = {entry["name"]: entry["precision"] for entry in found["kept"]}
    assert (found["precision"], found["swapped"], len(precisions)) == ("int", 32, 5)
    assert precisions["bert.encoder.layer.5.output.dense"] == "bf16"
    assert precisions["bert.encoder.layer.0.attention.self.key"] == precisions["qa_outputs"] == "fp"
    assert "gelu" not in found["fused"] and found["answers"][0]["text"] == "on the river Test"


def test_what_is_given_wins(cli, recipe) -> None:
    found = cli("--target", "customcpu", "--recipe", recipe, "--without", "packing", "--json", *PASSAGE).json
    assert "gelu" in found["fused"] and "packing" not in found["fused"]
    said = ("rules are for", "the precision is 'fp'")
    cli("--recipe", recipe, "--precision", "fp", *PASSAGE).fails_in_one_line(2, *said)


def test_the_default_is_no_choice(cli, tmp_path) -> None:
    """--precision fp is the default; a recipe without a precision is for int."""
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert cli("--recipe", str(path), "--json", *PASSAGE).json["precision"] == "int"
    assert cli("--recipe", str(path), "--precision", "bf16", "--json", *PASSAGE).json["precision"] == "bf16"


def test_bad_files(cli, tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    cli("--recipe", str(path), *PASSAGE).fails_in_one_line(1, "no file at", "recipe.yaml")
    path.write_text("rules: [{match: '*.output', precision: fp}]")
    said = ("pattern '*.output' matches none of the 37 linears", "such as bert.encoder")
    cli("--recipe", str(path), *PASSAGE).fails_in_one_line(2, *said)
    path.write_text("colour: red")
    cli("--recipe", str(path), *PASSAGE).fails_in_one_line(2, "recipe.yaml has an unknown key 'colour'")


USELESS = {
    "calibration at fp": (("--calibration", "x.json"), "--calibration is for --precision int, not fp"),
    "samples at fp": (("--samples", "3"), "--samples is for --precision int, not fp"),
    "samples of nothing": (("--precision", "int", "--samples", "3"), "--samples are drawn from --calibration FILE"),
    "ranges of dynamic": (("--precision", "int", "--ranges", "mse"), "--ranges is for --scheme static"),
    "percentile of dynamic": (("--precision", "int", "--percentile", "99.9"), "--percentile is for --scheme static"),
    "percentile of minmax": (
        ("--precision", "int", "--scheme", "static", "--calibration", "x.json", "--ranges", "minmax", "--percentile",
         "99.9"),
        "--percentile is for --ranges percentile, not minmax",
    ),
    "autotune": (("--precision", "int", "--autotune", "x.json"), "the native quantizer has no autotune"),
}  # fmt: skip
COMMANDS = {
    "ask": PASSAGE,
    "export": ("export", "--format", "pt2", "--output", "never"),
    "quantize": ("quantize", "--output", "never"),
    "sensitivity": ("sensitivity", "--data", "x.json"),
}


@pytest.fixture
def no_model(monkeypatch) -> None:
    monkeypatch.setattr("models.loading.AutoConfig.from_pretrained", lambda *a, **k: pytest.fail("it loads a model"))


@pytest.mark.parametrize(
    "command, case",
    # quantize and sensitivity are for int without being told
    [(name, case) for name in COMMANDS for case in USELESS if name in ("ask", "export") or "at fp" not in case],
)
def test_options_without_a_part_are_refused_before_a_model_is_loaded(cli, no_model, command, case) -> None:
    given, said = USELESS[case]
    result = cli(*given, *COMMANDS[command])
    assert result.code == 2 and said in result.err, result.err


def test_sensitivity_is_of_the_native_quantizer(cli, no_model, monkeypatch) -> None:
    monkeypatch.setattr("toolkit.quantizers.version", lambda package: "1")
    result = cli("--quantizer", "torchao", *COMMANDS["sensitivity"])
    assert result.code == 2 and "measures this project's own quantizer, not torchao" in result.err


def test_dynamic_with_calibration_names_its_file(cli, tmp_path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("The mill stands on the river Test.\n")
    given = ("--target", "customcpu", "--precision", "int", "--calibration", str(path), "--json")
    assert cli(*given, *PASSAGE).json["calibration"] == {"file": "lines.txt", "samples": 1}


@pytest.mark.parametrize(
    "given, said",
    [
        (("--scheme", "static", "--calibration", "x.json", "--ranges", "percentile"), "--ranges is for the native"),
        (("--scheme", "static", "--calibration", "x.json", "--ranges", "mse"), "got ranges 'mse'"),
        (("--calibration", "x.json"), "--calibration is for --scheme static with --quantizer torchao"),
    ],
    ids=["ranges", "other ranges", "calibration of dynamic"],
)
def test_what_another_quantizer_does_not_go_by_is_refused(cli, no_model, monkeypatch, given, said) -> None:
    monkeypatch.setattr("toolkit.quantizers.version", lambda package: "1")
    result = cli("--precision", "int", "--quantizer", "torchao", *given, *PASSAGE)
    assert result.code == 2 and said in result.err, result.err


def test_no_checkpoint_of_another_quantizers_dynamic_ranges(cli, no_model, monkeypatch) -> None:
    monkeypatch.setattr("toolkit.quantizers.version", lambda package: "1")
    result = cli("--quantizer", "torchao", *COMMANDS["quantize"])
    assert result.code == 2 and "give --scheme static" in result.err, result.err


def test_the_line_says_the_schemes_that_there_are(cli, tmp_path) -> None:
    path = tmp_path / "weight.yaml"
    for match, said, scheme in (("*", "int weight: runs", "weight"),
                                ("*.query", "int mixed (30 dynamic, 6 weight): runs", "dynamic")):  # fmt: skip
        path.write_text(f'rules: [{{match: qa_outputs, precision: fp}}, {{match: "{match}", scheme: weight}}]')
        result = cli("--target", "customcpu", "--recipe", str(path), "--json", *PASSAGE)
        assert said in result.err and result.json["scheme"] == scheme
        assert sum(result.json["schemes"].values()) == result.json["swapped"]
