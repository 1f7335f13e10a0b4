"""`validate`: the same inputs on several targets, how near each is to the reference, and whether that is enough."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.files import require_places, write
from commands.common import GATE_MISSED, Options, err, finite, out, print_json, print_wide, refuse, written
from commands.models import is_quantized
from commands.texts import window_options
from commands.validate_inputs import Inputs, read_inputs
from commands.validate_report import as_json, html, lines, table
from commands.validate_sides import Side, measure, parse, require_possible
from models import InputError
from models.loading import load_config
from models.tasks import TASKS
from toolkit.validate import Measured, Pair, compare, read, save
from toolkit.validate.compare import limits_for, require_same_inputs

REFERENCE = "cpu:fp"


@click.command("validate")
@click.option("--pair", "pairs", multiple=True, metavar="TARGET:PRECISION",
              help="Compare this one with the reference; repeatable; cpu@DEVICE for another device of PyTorch's, onnx "
              "or onnx@PROVIDER for ONNX Runtime on the file. Without :PRECISION it has --precision, or int if "
              "the model is quantized.  [default: --target]")  # fmt: skip
@click.option("--targets", "listed", metavar="T,T", help="Several targets, as after --pair.")
@click.option("--reference", metavar="TARGET:PRECISION or FILE",
              help="What the others are compared with; or a file that --save wrote, on any machine.  "
              f"[default: {REFERENCE}]")  # fmt: skip
@click.option("--task", default="ask", show_default=True, type=click.Choice(list(TASKS)), help="What the model is for.")
@click.option(
    "--data", help="SQuAD file; for other tasks than ask also text, one a line.  [default: the built-in story]"
)
@click.option("--limit", type=click.IntRange(1), help="The first N questions or texts only.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@window_options
@click.option("--iterations", default=1, show_default=True, type=click.IntRange(1), help="Timed passes over the rows.")
@click.option("--min-sqnr", type=float, callback=finite,
              help="dB.  [default: by precision: fp 80, fp16 45, bf16 35, int 20, fp8 18]")  # fmt: skip
@click.option("--min-cosine", type=click.FloatRange(-1, 1), callback=finite,
              help="[default: by precision, 0.999999 to 0.98]")  # fmt: skip
@click.option("--min-equal", type=click.FloatRange(0, 100), callback=finite,
              help="Percent of equal answers.  [default: 99 to 80]")  # fmt: skip
@click.option("--save", "saved", type=click.Path(path_type=Path),
              help="Write what the first --pair gave (without one: the reference) as safetensors.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as one HTML page.")
@click.pass_obj
def command(options: Options, pairs: tuple[str, ...], listed: str | None, reference: str | None, task: str,
            data: str | None, limit: int | None, batch_size: int, max_length: int | None, stride: int | None,
            iterations: int, min_sqnr: float | None, min_cosine: float | None, min_equal: float | None,
            saved: Path | None, output: Path | None) -> None:  # fmt: skip
    """The same inputs on several targets: SQNR, cosine, largest difference and equal answers against the reference,
    latency and memory of each; exit code 3 where one is not near enough."""
    if task != "ask":
        refuse(written(), ("stride",), "is for the windows of --task ask")
    require_places(saved, output)
    reason = None if reference else why_not_float(options.model)
    reference = reference or REFERENCE
    file = _file_named(reference)
    first = parse(REFERENCE if file else reference, "fp")
    sides = [side for side in _sides(options, pairs, listed) if file or side != first]
    if not sides and not saved:
        raise click.UsageError(f"nothing to compare {reference} with: give --pair TARGET:PRECISION, or --save FILE")
    require_possible(options, sides if file else [first, *sides])
    known = read(file) if file else None
    reason = why_other(known, options.model) if known else reason
    inputs = _inputs(options, task, data, limit, max_length, stride)
    if known:
        require_same_inputs(known, replace(known, name="this run", digest=inputs.digest(), about=inputs.about))
    base = known or measure(options, first, inputs, batch_size, iterations)
    if base.wrong:
        raise InputError(f"{base.name}: {base.wrong}")
    chosen = {
        "sqnr_db": min_sqnr,
        "cosine": min_cosine,
        "answers_equal": None if min_equal is None else min_equal / 100,
    }
    measured, found = [base], []
    for side in sides:
        one = measure(options, side, inputs, batch_size, iterations)
        found.append(compare(base, one, limits_for((base.precision, one.precision), **chosen)))
        # the outputs have been compared; what is saved is the first, and the others need no more memory
        measured.append(one if saved and len(measured) == 1 else replace(one, outputs={}))
    if saved:
        _save(measured[1] if sides else base, saved)
    result = as_json(measured, found, reason)
    if output:
        write(output, html(result))
    _show(options, result, measured, found)


def why_not_float(model: str) -> str | None:
    """→ what the reference is where it is not the float model's, None where it is"""
    if not is_quantized(model):
        return None
    return (f"{REFERENCE} computes with the 8-bit weights of {model}, read as floats: --reference FILE compares with "
            "what validate --save wrote of the float model")  # fmt: skip


def why_other(known: Measured, model: str) -> str | None:
    """→ what is said of a file of another model's outputs, which may be as near as is wanted; None for `model`'s own"""
    of = known.about["model"]
    return None if of == model else f"{known.name} is of the model {of}, all else of {model}"


def _sides(options: Options, pairs: tuple[str, ...], listed: str | None) -> list[Side]:
    decided = "precision" not in options.given and is_quantized(options.model)
    usual = "int" if decided else options.precision
    texts = [*pairs, *(text.strip() for text in (listed or "").split(",") if text.strip())]
    return list(dict.fromkeys(parse(text, usual) for text in texts)) or [parse(options.target, usual)]


def _file_named(reference: str) -> Path | None:
    """A side has a colon or is a bare target's name; everything else is a file."""
    path = Path(reference)
    looks_like_file = path.exists() or path.suffix or "/" in reference
    return path if looks_like_file else None


def _inputs(options: Options, task: str, data: str | None, limit: int | None, max_length: int | None,
            stride: int | None) -> Inputs:  # fmt: skip
    config, tokenizer = load_config(options.model)
    return read_inputs(TASKS[task], tokenizer, config, options.model, data, limit, max_length, stride)


def _save(measured: Measured, path: Path) -> None:
    if measured.wrong:
        err.print(f"{measured.name} is not saved: it gave no numbers")
        return
    try:
        save(measured, path)
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror or error}): give another place") from error
    err.print(f"{measured.name} saved as {path}: {path.stat().st_size / 1e6:.1f} MB; --reference takes it anywhere")


def _show(options: Options, result: dict[str, Any], measured: list[Measured], found: list[Pair]) -> None:
    if options.json:
        print_json(result)
    else:
        print_wide(*table(result))
        for line in lines(result):
            out.print(line)
    failed = [pair for pair in found if not pair.passed]
    if failed:
        missed = "; ".join(f"{pair.target}: {', '.join(pair.failed)}" for pair in failed)
        err.print(f"opswap: {len(failed)} of {len(found)} too far from {measured[0].name}: {missed}")
        raise click.exceptions.Exit(GATE_MISSED)
