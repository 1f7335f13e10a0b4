"""`export`: the model as one file for other engines, checked before it is said to be done."""

import time
from pathlib import Path
from typing import Any

import click
from torch import fx

from commands.common import GATE_MISSED, Options, err, finite, out, print_json, refuse, written
from commands.graph import before_lowering, describe, header_of, wanted_of
from commands.validate_inputs import Inputs, questions_of, read_inputs, texts_of
from models.tasks import ASK, TASKS
from targets._onnx import CPU, full_name
from toolkit import Recipe, checkpoint
from toolkit.export import onnx_file, pt2
from toolkit.export.about import about
from toolkit.export.check import LEAST_DB, LEAST_EQUAL, LEAST_EQUAL_INT8, Agreement, agreement
from toolkit.export.files import beside, require_place
from toolkit.onnx_session import open_session
from toolkit.pipeline import lowered
from toolkit.report import extra_terms
from toolkit.validate import Recorder

PRECISIONS = {"onnx": onnx_file.PRECISIONS, "pt2": pt2.PRECISIONS}
BATCH = 16  # rows at once in the check
REFERENCE = "cpu"  # stock kernels: float32 wherever the graph is not in 8 bits


@click.command("export")
@click.option("--format", "kind", default="onnx", show_default=True, type=click.Choice(sorted(PRECISIONS)),
              help="onnx: float, or INT8 as QuantizeLinear/DequantizeLinear (static) or integer operators (dynamic); "
              "pt2: PyTorch's exported graph.")  # fmt: skip
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The file; an earlier one is replaced.")
@click.option("--data", help="SQuAD file to check the answers on, for other tasks than ask also text, "
              "one a line.  [default: the built-in story]")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="With --data: the first N questions or texts only.")
@click.option("--provider", default=CPU, show_default=True, help="Who checks an ONNX file: a provider of ONNX Runtime.")
@click.option("--min-equal", type=click.FloatRange(0, 100), callback=finite,
              help="Percent of equal answers that passes; up to 1 it is "
              f"a share.  [default: {100 * LEAST_EQUAL:g}, in 8 bits {100 * LEAST_EQUAL_INT8:g}]")  # fmt: skip
@click.option("--task", default=ASK.name, show_default=True, type=click.Choice(sorted(TASKS)),
              help="What the model is loaded for: the file's outputs are this command's.")  # fmt: skip
@click.option("--no-check", is_flag=True, help="Write the file without running it.")
@click.pass_obj
def command(options: Options, kind: str, output: Path, data: str | None, limit: int | None, provider: str,
            min_equal: float | None, task: str, no_check: bool) -> None:  # fmt: skip
    """Write the model as ONNX or pt2, and check that the file computes what the graph computes.

    Either the file stands there, checked, or what stood there before.
    """
    if limit and not data:
        raise click.UsageError("--limit shortens --data FILE: give that too")
    if options.target != REFERENCE:
        raise click.UsageError(f"a file is for any engine, and is checked against {REFERENCE}: leave --target out")
    if options.without:
        raise click.UsageError("a file has no fusions: leave --without out")
    if kind == "pt2":
        refuse(written(), ("provider",), "is for an ONNX file, not pt2")
    if no_check:
        refuse(written(), ("data", "limit", "provider", "min_equal"), "is for the check, which --no-check leaves out")
    begun = time.perf_counter()
    require_place(output)
    require_possible(options, kind, provider, no_check)
    (questions_of if task == ASK.name else texts_of)(data, limit)  # what is wrong with the file is said now
    made = before_lowering(options, TASKS[task])
    inputs = None
    if not no_check:
        inputs = read_inputs(TASKS[task], made.tokenizer, made.config, options.model, data, limit)
    reference = lowered(checkpoint.copied(made.graph), made.recipe, options.target, options.strict)
    header = header_of(options, reference, made.data)
    err.print(describe(header))
    with beside(output) as new:
        says = write(made.graph, made.recipe, options, kind, new)
        found = None
        if inputs is not None:
            other: Any = open_session(new, provider, options.threads) if kind == "onnx" else pt2.read(new)
            usual = LEAST_EQUAL_INT8 if made.recipe.precision == "int" else LEAST_EQUAL
            least = share_of(min_equal)
            found = checked(reference, other, inputs, usual if least is None else least)
            says["check"] = {**found.as_json(), **_who(kind, other)}
        if found is not None and not found.passed:
            err.print(f"opswap: {output} was not written: it disagrees with {options.target}: {_words(found)}")
            raise click.exceptions.Exit(GATE_MISSED)
        says["files"] = {path.name: path.stat().st_size for path in sorted(new.parent.iterdir())}
    seconds = round(time.perf_counter() - begun, 2)
    result = {**header, "format": kind, "output": str(output), **says, "seconds": seconds}
    print_json(result) if options.json else _print(result, found)


def share_of(given: float | None) -> float | None:
    """given: in percent, or up to 1 the share itself, as this option was before → the share"""
    return given / 100 if given is not None and given > 1 else given


def require_possible(options: Options, kind: str, provider: str, no_check: bool) -> None:
    """Raises, before a model is loaded, what would stop the export in the end."""
    _, wanted = wanted_of(options)
    precision = "int" if wanted is None else wanted.precision
    if precision not in PRECISIONS[kind]:
        raise click.UsageError(f"{kind} is written at precision {' or '.join(PRECISIONS[kind])}, not {precision}")
    if kind == "onnx":
        onnx_file.require_packages()
        if not no_check:
            full_name(provider)


def write(graph: fx.GraphModule, recipe: Recipe, options: Options, kind: str, path: Path) -> dict[str, Any]:
    """→ what is to be said of the file"""
    says = about(graph, recipe, options.model)
    copy, extra = checkpoint.copied(graph), len(extra_terms(graph))
    if kind == "pt2":
        return {"quantized": pt2.write(copy, path, says) - extra}
    made = onnx_file.write(copy, path, says)
    if made.widened:
        err.print(f"{len(made.widened)} linears in bf16 are in float32 in the file: {', '.join(made.widened)}")
    return {
        "opset": made.opset,
        "quantized": made.linears - extra,
        "widened": made.widened,
        "operators": made.operators,
    }


def checked(reference: Any, other: Any, inputs: Inputs, least: float) -> Agreement:
    """Both are given the same rows, and answer them if they are for that."""
    want, got = Recorder(reference), Recorder(other)
    wanted, answers = (inputs.answers(model, BATCH) for model in (want, got))
    return agreement(want, got, list(wanted.values()), [answers[name] for name in wanted], least)


def _who(kind: str, other: Any) -> dict[str, Any]:
    return {"provider": other.provider, "nodes": other.nodes} if kind == "onnx" else {"provider": "torch"}


def _words(found: Agreement) -> str:
    db = f"SQNR {found.sqnr_db:.1f} dB (at least {LEAST_DB:.0f})"
    equal = f"{found.equal} of {found.questions} answers equal (at least {found.least})"
    return f"{db}, {equal}" if found.questions else db


def _print(result: dict[str, Any], found: Agreement | None) -> None:
    size = sum(result["files"].values()) / 1e6
    out.print(f"{result['output']}: {result['format']}, {result['quantized']} linears in 8 bits, {size:.1f} MB in "
              f"{len(result['files'])} file{'s' * (len(result['files']) > 1)}, {result['seconds']:.1f} s")  # fmt: skip
    if found is None:
        out.print("not checked")
        return
    check = result["check"]
    nodes = "".join(f", {count} nodes on {name}" for name, count in check.get("nodes", {}).items())
    out.print(f"checked against {result['target']['requested']} in {check['provider']}{nodes}: {_words(found)}")
