"""The three workloads of cuda's goals, and the F1 that 8 bits cost: what is measured, on a machine with a GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import cuda_peers, inputs, measure
from benchmarks.one_line import one_line
from benchmarks.peers._models import run_of
from benchmarks.peers.base import Batch, Run
from models import load
from models.errors import InputError
from models.question_answering.examples import Example
from models.question_answering.features import make_windows
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, predict
from targets import NotNative, TargetUnavailable
from toolkit import Recipe, transform

OURS = {"opswap int": "int", "opswap fp8": "fp8", "opswap bf16": "bf16"}
WINDOW = 384  # tokens
LONGER = 64  # peers' batches of like lengths are padded to multiples of this, so that few shapes are compiled


@dataclass(frozen=True)
class Work:
    """batches: by engine, "ours" and "peers"; rows: samples of one pass; rounds: timed passes, or calls"""

    name: str
    model: Any
    ours: Sequence[Batch]
    peers: Sequence[Batch]
    rows: int
    rounds: int


def one_shape(name: str, shape: str, rows: int, rounds: int) -> Work:
    """Random tokens without padding, [rows, WINDOW]"""
    model = inputs.random_model(shape)
    batch = [inputs.random_batch(model, rows, WINDOW)]
    return Work(name, model, batch, batch, rows, rounds)


def true_lengths(name: str, shape: str, examples: Sequence[Example], rows: int, rounds: int) -> Work:
    """The windows of SQuAD's questions in batches of like length; padding is left out by us, and little for the peers.
    Raises InputError where they make no batch."""
    model, tokenizer = inputs.random_model(shape), load()[1]
    windows = make_windows(tokenizer, examples, WINDOW)
    if len(windows) < rows:
        raise InputError(
            f"a batch of {rows} windows was wanted; the questions make {len(windows)}; lower --rows or raise --limit"
        )
    found = inputs.like_lengths(model, windows, tokenizer.pad_token_id, rows, WINDOW)
    pad = tokenizer.pad_token_id
    peers = [longer(batch, pad) for batch in found.batches]
    return Work(name, model, found.batches, peers, len(found.tokens), rounds)


def longer(batch: Batch, pad: int) -> Batch:
    """→ the batch, padded to a multiple of LONGER"""
    more = -batch["input_ids"].shape[1] % LONGER
    fill = {"input_ids": pad}
    return {name: F.pad(value, (0, more), value=fill.get(name, 0)) for name, value in batch.items()}


def times(work: Work, prepare: Callable[[str, Work], Run], names: Sequence[str]) -> dict[str, Any]:
    """→ for each engine its milliseconds: of each call where there is one batch, else of each whole pass; or the
    reason, as a string, why it could not be measured. In turns, in one process. A fault of our own is raised."""
    runs: dict[str, Run] = {}
    found: dict[str, Any] = {}
    for name in names:
        try:
            run = prepare(name, work)
            for batch in batches_of(name, work) * 3:  # compile, capture, replay
                run(batch)
            runs[name] = run
        # an engine of others raises what it likes; its failure is a result, as is what ours can't do on this GPU
        except Exception as error:
            if name in OURS and not isinstance(error, TargetUnavailable | NotNative):
                raise
            found[name] = one_line(error)
    if not runs:
        return found
    turns = {name: [list(batches_of(name, work)) for _ in range(work.rounds)] for name in runs}
    if len(work.ours) == 1:
        turns = {name: measure.turns_of(batches_of(name, work)[0], work.rounds, 10) for name in runs}
    for name, rounds in measure.interleaved(runs, turns).items():
        found[name] = [time for turn in rounds for time in turn] if len(work.ours) == 1 else [sum(t) for t in rounds]
    return found


def batches_of(name: str, work: Work) -> list[Batch]:
    return list(work.ours if name in OURS else work.peers)


def prepare(name: str, work: Work) -> Run:
    """An engine of OURS or of cuda_peers.PEERS, ready for the work's model"""
    if name in OURS:
        return run_of(transform(work.model, Recipe(OURS[name]), "cuda", strict=True))
    torch._dynamo.reset()
    return cuda_peers.prepare(name, work.model)


def f1_or_why(examples: Sequence[Example]) -> dict[str, float] | str:
    """f1_drops, or why this GPU has none"""
    try:
        return f1_drops(examples)
    except (TargetUnavailable, NotNative) as error:
        return one_line(error)


def f1_drops(examples: Sequence[Example], target: str = "cuda", model: str = "minilm-squad") -> dict[str, float]:
    """→ F1 of `model` at fp, int and fp8 on SQuAD's questions, and what int and fp8 lose of it, in points"""
    network, tokenizer = load(model)
    found = {}
    for precision in ("fp", "int", "fp8"):
        graph = transform(network, Recipe(precision), target)
        answers = predict(graph, tokenizer, examples, batch_size=32)
        found[precision] = float(evaluate(examples, answer_texts(examples, answers))["f1"])
    return {**found, "int drop": found["fp"] - found["int"], "fp8 drop": found["fp"] - found["fp8"]}
