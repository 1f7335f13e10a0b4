"""What a model holds in memory, and how long until it can be called: `python -m benchmarks.footprint`.

PyTorch's float32, 8 bits made from its folder, and 8 bits from a folder as `quantize` writes it: each in a process of
its own, so that none counts what another left.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import torch
from torch import nn
from transformers import AutoModelForQuestionAnswering

import targets
from benchmarks.inputs import SHAPES, random_batch, random_model
from benchmarks.one_line import OneLine
from benchmarks.peers.base import Batch
from benchmarks.table import in_markdown, in_threads
from models.errors import InputError
from models.memory import nobody_writes
from toolkit import Recipe, checkpoint, transform
from toolkit.pipeline import quantized
from toolkit.validate.memory import added_memory, bytes_of

FLOAT, INT8 = "float", "int8"  # the folders
INT = Recipe(precision="int")
COLUMNS = ("", "weights MB", "memory MB, made and called", "seconds until it can be called")


def pytorch(folder: Path) -> nn.Module:
    model: nn.Module = AutoModelForQuestionAnswering.from_pretrained(folder / FLOAT).eval()
    return model


def from_float(folder: Path) -> nn.Module:
    return transform(pytorch(folder), INT, target="customcpu")


def from_folder(folder: Path) -> nn.Module:
    return transform(checkpoint.load(folder / INT8), target="customcpu")


WAYS: dict[str, Callable[[Path], nn.Module]] = {
    "PyTorch fp32": pytorch,
    "customcpu int, from the float folder": from_float,
    "customcpu int, from a folder that `quantize` wrote": from_folder,
}


def write_folders(shape: str, place: Path) -> Batch:
    """The model of this shape, float and in 8 bits. → a batch for it, 384 tokens"""
    model = random_model(shape)
    model.save_pretrained(place / FLOAT)
    checkpoint.save(quantized(model, INT), model, INT, place / INT8, lambda _: None)
    return random_batch(model, 1, 384)


def measure(way: str, folder: Path, batch: Batch, threads: int) -> dict[str, float]:
    """In a process of its own. → MB of 10⁶ bytes, and seconds from the files to a graph that can be called; memory: the
    most that the process holds, above what it held before, while the model is made and called once. Raises InputError
    where the system does not say."""
    torch.set_num_threads(threads)
    nobody_writes()
    targets.require_runnable(targets.get("customcpu"), "int", strict=False)  # its kernels, built where they are not yet
    with added_memory() as added, torch.inference_mode():
        begun = time.perf_counter()
        model = WAYS[way](folder)
        seconds = time.perf_counter() - begun
        model(**batch)
    memory = added["run_adds_mb"]
    if memory is None:
        raise InputError("this system does not say how much memory a process held: Linux does")
    return {"weights": bytes_of(model) / 1e6, "memory": memory, "seconds": seconds}


def alone(way: str, folder: Path, batch: Batch, threads: int) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, way, folder, batch, threads).result()


def row_of(way: str, runs: list[dict[str, float]]) -> tuple[str, ...]:
    """Medians."""
    found: Mapping[str, float] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    sizes = (f"{found[name]:.0f}" for name in ("weights", "memory"))
    return (way, *sizes, f"{found['seconds']:.2f}")


@click.command(cls=OneLine)
@click.option("--shape", type=click.Choice(sorted(SHAPES)), default="bert-large", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Processes for each row.")
def main(shape: str, threads: int, repeat: int) -> None:
    """Memory and time to be ready, float32 and 8 bits, of a model with random weights; medians."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        batch = write_folders(shape, folder)
        turns = [{way: alone(way, folder, batch, threads) for way in WAYS} for _ in range(repeat)]
    click.echo(f"{shape}, batch 1, {batch['input_ids'].shape[1]} tokens, {in_threads(threads)}\n")
    click.echo(in_markdown(COLUMNS, [row_of(way, [turn[way] for turn in turns]) for way in WAYS]))


if __name__ == "__main__":
    main()
