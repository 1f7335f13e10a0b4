"""The commands that the pages give can be typed: each parses, and each option that they name is one of a command."""

import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

import run
from commands import group
from toolkit.fuse import NAMES

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/commands.md",
    "docs/quantization.md",
    "benchmarks/README.md",
    "models/minilm-squad/README.md",
    "docs/fusions.md",
    "tests/data/README.md",
)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"python (run\.py|-m benchmarks\.\w+)(?: ([^|>#\n]*))?")  # up to a pipe, a redirection, a remark
MAY_BE_LEFT_OUT = re.compile(r"\[(?:options|([^]]*?)(?: \.\.\.)?)\]")
FILLED = {"N": "1", "COUNT": "1"}  # what stands for a number
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def pieces(page: str) -> Iterator[str]:
    """→ what stands as code: the blocks, lines that go on put together, and the spans"""
    text = (ROOT / page).read_text()
    for block in FENCE.findall(text):
        yield block.replace("\\\n", " ")
    for span in SPAN.findall(FENCE.sub("", text)):
        yield span.replace("\n", " ")


COMMANDS = sorted({(page, *found) for page in PAGES for piece in pieces(page) for found in COMMAND.findall(piece)})


@cache
def command_of(program: str) -> click.Command:
    """program: run.py or -m benchmarks.NAME"""
    if program == "run.py":
        return run.main
    module = importlib.import_module(program.removeprefix("-m "))
    (found,) = (one for one in vars(module).values() if isinstance(one, click.Command))
    return found


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page, program, given", COMMANDS, ids=[" ".join(found) for found in COMMANDS])
def test_a_command_parses(page: str, program: str, given: str) -> None:
    arguments = [FILLED.get(one, one) for one in shlex.split(MAY_BE_LEFT_OUT.sub(r"\1", given))]
    name = next((one for one in arguments if one in group.COMMANDS), None) if program == "run.py" else None
    here = len(arguments) if name is None else arguments.index(name)
    context = command_of(program).make_context(program, arguments[:here])
    assert not context.args
    if name is not None:
        inner = importlib.import_module(f"commands.{name}").command
        assert not inner.make_context(name, arguments[here + 1 :], parent=context).args


def test_every_page_has_commands_that_are_found() -> None:
    assert {page for page, *_ in COMMANDS} == set(PAGES[:5]) and len(COMMANDS) > 30


@pytest.mark.parametrize("page", PAGES)
def test_an_option_is_one_of_a_command(page: str) -> None:
    programs = {program for _, program, _ in COMMANDS}
    known = set[str]().union(*(options_of(command_of(program)) for program in programs))
    for name in group.COMMANDS:
        known |= options_of(importlib.import_module(f"commands.{name}").command)
    named = {option for piece in pieces(page) for option in OPTION.findall(piece)}
    assert named <= known | {"--help"}


def test_every_fusion_is_told() -> None:
    rows = [line for line in (ROOT / "docs/fusions.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in SPAN.findall(row.split("|")[1])) == sorted(NAMES)
