"""NaN, which passes every comparison that asks what is wrong, and infinity: as options, and in JSON."""

import json
import math
from collections.abc import Iterator

import click
import pytest

import run
from commands import group
from commands.common import a_number, finite, print_json
from tests.cli import Cli
from tests.commands.test_eval import SAMPLE


def floats() -> Iterator[tuple[str, click.Option]]:
    """→ every option of run.py and its commands that is a float"""
    context = click.Context(run.main)
    commands = {"": run.main} | {name: run.main.get_command(context, name) for name in group.COMMANDS}
    for name, command in commands.items():
        for option in command.params:
            if isinstance(option.type, click.types.FloatParamType):
                yield f"{name} {option.opts[0]}".strip(), option


OPTIONS = dict(floats())
ENDLESS = {"ask --no-answer", "eval --no-answer"}  # answer all, or none


def test_options_are_found() -> None:
    assert {"--percentile", "eval --max-drop", "validate --min-sqnr", "generate --temperature", *ENDLESS} <= set(
        OPTIONS
    )


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf"])
def test_no_option_takes_what_is_no_number(name: str, value: str) -> None:
    option = OPTIONS[name]
    assert option.callback is (a_number if name in ENDLESS else finite)
    context = click.Context(click.Command("x"))
    if name in ENDLESS and "inf" in value:
        assert option.process_value(context, value) == float(value)
        return
    with pytest.raises(click.BadParameter):
        option.process_value(context, value)


HUGE = str(10**20)
TOO_MUCH = {
    "a seed of generate": (("generate", "--text", "a", "--sample", "--seed", HUGE), 2, "--seed"),
    "a seed of finetune": (("finetune", "--train", SAMPLE, "--output", "x", "--seed", HUGE), 2, "--seed"),
    "scores by nothing": (("generate", "--text", "a", "--sample", "--temperature", "1e-300"), 2, "--temperature"),
    "a batch of bench": (("bench", "--batch-size", HUGE), 1, "lower --batch-size"),
    "a batch of plan": (("--target", "aie", "--precision", "int", "plan", "--batch-size", HUGE), 1, "--batch-size"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_more_than_a_computer_counts(cli: Cli, name: str) -> None:
    given, code, said = TOO_MUCH[name]
    result = cli(*given)
    assert (result.code, result.out) == (code, "") and said in result.err and "Traceback" not in result.err


def test_a_limit_that_is_nan_is_one_line(cli: Cli) -> None:
    result = cli("eval", "--data", SAMPLE, "--baseline", SAMPLE, "--max-drop", "nan")
    assert result.code == 2 and "Invalid value for '--max-drop': nan is no finite number." in result.err
    assert cli("--percentile", "nan", "ask").code == 2


def test_what_is_printed_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": [1.5, -math.inf, "NaN"], "c": {"d": (math.inf, True)}})
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert found == {"a": None, "b": [1.5, None, "NaN"], "c": {"d": [None, True]}}
