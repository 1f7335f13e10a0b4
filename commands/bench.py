"""`bench`: how fast the graph is here, beside the other engines that are installed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import arithmetic, inputs, measure, peers, plot, profiling, report, table
from benchmarks.contenders import Contender, LeftOut, agreement, ready
from benchmarks.files import named, require_places, write
from benchmarks.inputs import Batches
from benchmarks.peers._models import run_of
from benchmarks.peers.base import Engine
from commands.common import Options, err, out, print_json, progress_bar, refuse
from commands.graph import Ready, prepare
from commands.models import is_quantized, load_float
from commands.validate_inputs import texts_of
from models import InputError, load
from models.question_answering.examples import read_examples
from models.question_answering.features import make_windows
from models.tasks import ASK, GENERATE, TASKS, Task
from models.texts import text_windows

ITERATIONS, PASSES = 30, 3  # timed calls of a shape; passes over --data
PROFILED = 5  # calls of --profile
ENDINGS = ("json", "md", "png")  # of what --output writes
MEASURED = [name for name in TASKS if name != GENERATE.name]


@click.command("bench")
@click.option("--task", default=ASK.name, show_default=True, type=click.Choice(MEASURED), help="What the model is for.")
@click.option("--batch-size", default=1, show_default=True, type=click.IntRange(1))
@click.option("--sequence-length", default=384, show_default=True, type=click.IntRange(1),
              help="Tokens a row; with --data, the longest window.")  # fmt: skip
@click.option("--iterations", type=click.IntRange(1),
              help=f"Timed calls, or passes over --data.  [default: {ITERATIONS}, {PASSES}]")  # fmt: skip
@click.option("--shape", type=click.Choice(list(inputs.SHAPES)), help="Random weights of this size, not --model's.")
@click.option("--data", help="SQuAD file, for other tasks than ask also text, one a line: its rows in their own mix of "
              "lengths, padded and in like lengths.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="With --data: the first N questions or texts only.")
@click.option("--peers", "with_peers", is_flag=True, help="The same work in every other engine that is installed.")
@click.option("--peer", "patterns", multiple=True,
              help="Only the peers of this name, a shell pattern (openvino*); repeatable.")  # fmt: skip
@click.option("--profile", "with_profile", is_flag=True, help="Time by operator of our graph, of one batch; each "
              "fused one is a row: --without layers and feed_forward show what they hold.")  # fmt: skip
@click.option("--trace", type=click.Path(path_type=Path), help="--profile's calls as a file for chrome://tracing.")
@click.option("--output", type=click.Path(path_type=Path), help="Write PATH.json, PATH.md and PATH.png (a plot).")
@click.pass_obj
def command(options: Options, task: str, batch_size: int, sequence_length: int, iterations: int | None,
            shape: str | None, data: str | None, limit: int | None, with_peers: bool, patterns: tuple[str, ...],
            with_profile: bool, trace: Path | None, output: Path | None) -> None:  # fmt: skip
    """Latency and throughput with warm-up: median, p95, p99, samples a second, share of the machine's peak."""
    if shape:
        refuse(options.given, ("model",), "is not what --shape measures")
    if output and (why := plot.available()):
        raise InputError(why)
    require_places(trace, *named(output, *ENDINGS))
    if limit and not data:
        raise click.UsageError("--limit shortens --data FILE: give that too")
    engines = peers.select(patterns) if with_peers or patterns else ()
    what = TASKS[task]
    model, tokenizer = (inputs.random_model(shape, what), load()[1]) if shape else load_float(options.model, what)
    options = replace(options, model=f"{shape} (random weights)") if shape else options
    passes = [Batches("one shape", (inputs.random_batch(model, batch_size, sequence_length),), (), one_shape=True)]
    if data:
        passes = windows_of(what, data, limit, model, tokenizer, batch_size, sequence_length)
    saved = not shape and is_quantized(options.model)
    loaded = prepare(options, None if saved else (model, tokenizer), what)
    if with_profile or trace:
        profiling.require_cpu(loaded.graph)  # now, not after everything has been measured
    threads = options.threads or torch.get_num_threads()
    found, absent = contenders(options, loaded, engines, model, passes, threads)
    result = {
        **loaded.header,
        "task": task,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "threads": threads,
        "torch": torch.__version__,
        **({"data": {"file": Path(data).name, "windows": len(passes[0].tokens)}} if data else {}),
        **measured(found, absent, model, iterations, threads, a_pass=bool(data)),
    }
    if with_profile or trace:
        runs = profiling.profile(loaded.graph, passes[-1].batches[0], PROFILED)
        result["operators"] = profiling.by_operator(runs)
        if trace:
            profiling.write_trace(runs[-1], trace)
    if output:
        save(result, output)
    print_json(result) if options.json else show(result)


def windows_of(
    task: Task, data: str, limit: int | None, model: Any, tokenizer: Any, rows: int, length: int
) -> list[Batches]:
    """The rows of a file as padded batches and as batches of like length. Raises InputError when they do not fill one
    batch."""
    if task is ASK:
        windows = make_windows(tokenizer, read_examples(data, limit), length)
    else:
        windows, _ = text_windows(tokenizer, texts_of(data, limit), length)
    if len(windows) < rows:
        few = f"{data} gives {len(windows)} windows, one batch wants {rows}"
        raise InputError(f"{few}: lower --batch-size or raise --limit")
    pad = tokenizer.pad_token_id
    return [make(model, windows, pad, rows, length) for make in (inputs.padded, inputs.like_lengths)]


def contenders(
    options: Options, loaded: Ready, engines: tuple[Engine, ...], model: Any, passes: list[Batches], threads: int
) -> tuple[list[Contender], list[LeftOut]]:
    """Ours, then every engine that could be prepared, on each kind of batches; and those that could not."""
    run = run_of(loaded.graph)
    precision = loaded.header["precision"]
    ours = Engine(f"OpSwap {options.target} {precision}", precision, (), lambda _: run)
    found, absent = [], []
    for batches in passes:
        found.append(Contender(ours, run, batches, agreement(model, ours, run, batches)))
        for batch in batches.batches:
            run(batch)
    for engine in engines:
        for batches in passes:
            err.print(f"preparing {engine.name}, batches {batches.how}")
            one = ready(engine, model, batches, threads)
            if isinstance(one, Contender):
                found.append(one)
            else:
                absent.append(one)
                err.print(f"left out: {engine.name}: {one.reason}")
    return found, absent


def measured(
    found: list[Contender], absent: list[LeftOut], model: Any, iterations: int | None, threads: int, a_pass: bool
) -> dict[str, Any]:
    """Times everything in turns; → the fields of the result."""
    before = report.peaks(threads)
    turns = {}
    for one in found:
        batches = list(one.batches.batches)
        a_shape = measure.turns_of(batches[0], iterations or ITERATIONS)
        turns[one.key] = [batches] * (iterations or PASSES) if a_pass else a_shape
    protocol = measure.Protocol() if len(found) > 1 else measure.Protocol(pause=0)
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=sum(map(len, turns.values())))
        times = measure.interleaved({one.key: one.run for one in found}, turns, protocol, lambda: bar.advance(task))
    machine = report.better(before, report.peaks(threads))
    batch, tokens = found[0].batches.batches[0], found[0].batches.tokens
    work = arithmetic.of_lengths(model, batch, tokens) if a_pass else arithmetic.multiply_adds(model, batch)
    entries = [report.entry(one, times[one.key], work.total, machine, a_pass) for one in found]
    ours = [entry for one, entry in zip(found, entries, strict=True) if not one.engine.packages]
    others = [entry for one, entry in zip(found, entries, strict=True) if one.engine.packages]
    missing = [report.left_out(one, a_pass) for one in absent]
    counted = {"multiply_adds": {"linears": work.linears, "attention": work.attention}, "peak": machine}
    return {**report.whole(ours, others, missing), **counted}


def save(result: dict[str, Any], output: Path) -> None:
    """JSON, Markdown and plot beside each other."""
    as_json, markdown, picture = named(output, *ENDINGS)
    write(markdown, table.markdown(result))
    plot.draw([result], picture)
    write(as_json, report.as_text(result) + "\n")


def show(result: dict[str, Any]) -> None:
    """The table, what was left out, and the operators if they were timed."""
    out.print(table.text(result))
