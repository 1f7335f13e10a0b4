"""`encode`: texts on the command line, hidden states out."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.files import in_place, require_places
from benchmarks.measure import latency
from commands.common import Options, err, out, print_json, refuse, written
from commands.graph import Ready, prepare
from commands.texts import given_texts, text_options
from models.question_answering.features import Window
from models.tasks import ENCODE
from models.texts import longest_row, text_windows, through
from toolkit.tensor_file import save as save_tensors

LAZY = "PT_HPU_LAZY_MODE"  # read by Habana's SDK when it is loaded
SHOWN = 4  # numbers of a text's first hidden state that are printed


@click.command("encode")
@text_options
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--max-length", type=click.IntRange(1), help="Tokens a text; more are cut off, and it is said.  "
              "[default: 384, or what the model reads]")  # fmt: skip
@click.option("--iterations", default=1, show_default=True, type=click.IntRange(1), help="Passes over the texts.")
@click.option("--perf", is_flag=True, help="Tokens and sentences a second; padding is no token. One pass warms up.")
@click.option("--graphs", is_flag=True, help="hpu: record HPU graphs, which needs lazy mode and turns it on.")
@click.option("--output", type=click.Path(path_type=Path),
              help="Write each text's hidden states, float32 [tokens, width], as safetensors.")  # fmt: skip
@click.pass_obj
def command(options: Options, texts: tuple[str, ...], path: str | None, batch_size: int, max_length: int | None,
            iterations: int, perf: bool, graphs: bool, output: Path | None) -> None:  # fmt: skip
    """Hidden states of texts: float32 or bfloat16 by --precision, 8 bits too; how fast with --perf."""
    if not perf:
        refuse(written(), ("iterations",), "is for --perf, which is not given")
    given = given_texts(texts, path)
    require_places(output)
    if graphs:
        require_graphs(options)
    ready = prepare(options, task=ENCODE)
    length = longest_row(ready.tokenizer, ready.config, max_length)
    windows, cut = text_windows(ready.tokenizer, given, length)
    if perf:
        encoded(ready, windows, batch_size)
    times: list[float] = []
    for _ in range(iterations):
        begun = time.perf_counter()
        states, padded = encoded(ready, windows, batch_size)
        times.append(1000 * (time.perf_counter() - begun))
    result: dict[str, Any] = {
        **ready.header,
        "max_length": length,
        "texts": [
            {"text": text, "truncated": was_cut, **described(state)}
            for text, was_cut, state in zip(given, cut, states, strict=True)
        ],
        **({"perf": performance(times, windows, padded, batch_size)} if perf else {}),
    }
    if output:
        result["output"] = str(output)
        write(output, states, options.model)
    print_json(result) if options.json else show(result)


def require_graphs(options: Options) -> None:
    """Turns lazy mode on, in which the target hpu records graphs. Raises click.UsageError for other targets."""
    if options.target != "hpu":
        raise click.UsageError(f"--graphs are HPU graphs, which target hpu has, not {options.target}: leave it out")
    os.environ[LAZY] = "1"
    from targets.hpu.card import missing

    if missing():
        err.print(f"no HPU graphs are recorded: {'; '.join(missing())}")


def encoded(ready: Ready, windows: Sequence[Window], batch_size: int) -> tuple[list[Tensor], int]:
    """→ the last hidden state of each text, float32 [tokens, width], and how many tokens there were with padding"""
    states: dict[int, Tensor] = {}
    padded = 0
    for places, batch, output in through(ready.graph, ready.tokenizer.pad_token_id, windows, batch_size):
        padded += batch["input_ids"].numel()
        for row, place in enumerate(places):
            states[place] = output.last_hidden_state[row, : len(windows[place])].to(torch.float32)
    return [states[place] for place in range(len(windows))], padded


def described(state: Tensor) -> dict[str, Any]:
    """→ what is said of hidden states [tokens, width]; norm: the mean of the tokens'; first: of the first token"""
    return {
        "tokens": state.shape[0],
        "width": state.shape[1],
        "mean": float(state.mean()),
        "std": float(state.std(correction=0)),
        "norm": float(state.norm(dim=1).mean()),
        "first": [float(value) for value in state[0, :SHOWN]],
    }


def performance(times: list[float], windows: Sequence[Window], padded: int, batch_size: int) -> dict[str, Any]:
    """times: of each pass in ms → rates by the median pass; tokens: the real ones of a pass, special tokens among
    them; padding: the share of what was computed that is none"""
    tokens, seconds = sum(len(window) for window in windows), latency(times)["median"] / 1000
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "sentences_per_second": round(len(windows) / seconds, 2),
        "latency_ms": latency(times),
        "iterations": len(times),
        "batch_size": min(batch_size, len(windows)),
        "tokens": tokens,
        "padding": round(1 - tokens / padded, 4),
    }


def write(path: Path, states: list[Tensor], model: str) -> None:
    """text0, text1, ... in their order. Raises InputError where the place can't be written."""
    tensors = {f"text{place}": state for place, state in enumerate(states)}
    in_place(path, lambda beside: save_tensors(tensors, beside, {"model": model}))


def show(result: dict[str, Any]) -> None:
    """A line for each text, and the rates."""
    for found in result["texts"]:
        text = found["text"] if len(found["text"]) <= 60 else f"{found['text'][:57]}..."
        first = " ".join(f"{value:+.3f}" for value in found["first"])
        cut = f" (cut after {found['tokens']})" if found["truncated"] else ""
        out.print(f"{text}\n  {found['tokens']} × {found['width']}{cut}, norm {found['norm']:.3f}, mean "
                  f"{found['mean']:+.4f}, std {found['std']:.4f}, first {first} …")  # fmt: skip
    if "output" in result:
        out.print(f"hidden states written to {result['output']}")
    if "perf" in result:
        perf = result["perf"]
        out.print(f"{perf['tokens_per_second']:.0f} tokens/s, {perf['sentences_per_second']:.2f} sentences/s; "
                  f"{perf['tokens']} tokens a pass, padding {perf['padding']:.1%} (not counted), median of "
                  f"{perf['iterations']}")  # fmt: skip
