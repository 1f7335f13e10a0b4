"""The same batch through each engine in turns, round after round: medians, and ratios to the first engine.

python -m benchmarks.engines --batch-size 1 --sequence-length 384
"""

import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from models import load
from models.memory import keep_freed_memory
from toolkit import Recipe, transform

Engine = Callable[..., Any]
TARGETS = {
    "cpu fp": ("cpu", "fp"),
    "cpu int": ("cpu", "int"),
    "customcpu int": ("customcpu", "int"),
    "aie int": ("aie", "int"),
}


def pytorch_dynamic(model: torch.nn.Module, backend: str) -> Engine:
    """PyTorch's own dynamic INT8 of every linear but the head, on one of its two backends."""
    torch.backends.quantized.engine = backend
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what people run
        wanted = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)} - {"qa_outputs"}
        quantize = torch.ao.quantization.quantize_dynamic
        return quantize(model, {name: torch.ao.quantization.default_dynamic_qconfig for name in wanted})


def engines(model: torch.nn.Module) -> dict[str, Engine]:
    """Every engine that runs here, by name; the first is PyTorch's float32."""
    found: dict[str, Engine] = {"PyTorch eager fp32": model}
    for backend in ("onednn", "fbgemm"):
        if backend in torch.backends.quantized.supported_engines:
            found[f"PyTorch dynamic int8 ({backend})"] = pytorch_dynamic(model, backend)
    for name, (target, precision) in TARGETS.items():
        found[name] = transform(model, Recipe(precision=precision), target)
    return found


@torch.inference_mode()
def measure(found: dict[str, Engine], batch: dict[str, torch.Tensor], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each engine in each round; the order is turned by one place a round."""
    times: dict[str, list[float]] = {name: [] for name in found}
    names = list(found)
    for number in range(rounds + 2):
        turned = names[number % len(names) :] + names[: number % len(names)]
        for name in turned:
            begun = time.perf_counter()
            found[name](**batch)
            if number >= 2:  # two rounds to warm up
                times[name].append(1000 * (time.perf_counter() - begun))
    return times


@click.command()
@click.option("--model", default="minilm-squad", show_default=True)
@click.option("--batch-size", default=1, show_default=True)
@click.option("--sequence-length", default=384, show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", type=int)
@click.option("--json", "as_json", is_flag=True)
def main(model: str, batch_size: int, sequence_length: int, rounds: int, threads: int | None, as_json: bool) -> None:
    """Interleaved latencies of PyTorch's engines and of this project's targets."""
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    loaded, _ = load(model)
    ids = torch.randint(1000, loaded.config.vocab_size, (batch_size, sequence_length))
    times = measure(engines(loaded), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, rounds)
    base = statistics.median(next(iter(times.values())))
    rows = {
        name: {"median": statistics.median(row), "min": min(row), "ratio": base / statistics.median(row)}
        for name, row in times.items()
    }
    if as_json:
        click.echo(json.dumps({"batch_size": batch_size, "sequence_length": sequence_length, "latency_ms": rows}))
        return
    table = Table("engine", "median ms", "min ms", "times as fast as fp32", title=f"B{batch_size} S{sequence_length}")
    for name, row in rows.items():
        table.add_row(name, f"{row['median']:.1f}", f"{row['min']:.1f}", f"{row['ratio']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
