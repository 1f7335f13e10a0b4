"""Small fine-tuning runs; as a program, one that another process kills or that torchrun starts."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from models import InputError
from models.finetune import Settings, Step, train
from models.question_answering.examples import Example
from tests.models.samples import sample, tiny_bert, tokenizer

# 22 windows of at most 100 tokens: 5 steps an epoch, parts of unequal size on two processes.
SETTINGS = Settings(epochs=2, learning_rate=1e-2, batch_size=5, max_length=100, stride=16, bf16=False)
EXAMPLES = sample()[:14]


WITHOUT_DROPOUT = {"parts of 3 and 2": SETTINGS, "parts of 1 and 0": replace(SETTINGS, batch_size=1, epochs=1)}


class Killed(Exception):
    """Stands for the end of a process."""


def nothing(step: Step) -> None:
    """What most runs do after a step."""


def raise_at(number: int) -> Callable[[Step], None]:
    def on_step(step: Step) -> None:
        if step.number == number:
            raise Killed

    return on_step


def kill_at(number: int) -> Callable[[Step], None]:
    def on_step(step: Step) -> None:
        if step.number == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_step


def run(
    output: Path,
    settings: Settings = SETTINGS,
    on_step: Callable[[Step], None] = nothing,
    dropout: float = 0.1,
    seed: int = 0,
    examples: Sequence[Example] = EXAMPLES,
    **options: object,
) -> dict[str, Tensor]:
    """The weights after a run; a state is written every 2 steps and after each epoch."""
    model = tiny_bert(dropout, seed)
    train(model, tokenizer(), examples, settings, output, checkpoint_every=2, on_step=on_step, **options)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def first_step(output: Path, settings: Settings) -> None:
    """Leaves the state of the first step in `output`: its first moments are a tenth of the gradients."""
    model = tiny_bert(dropout=0.0)
    with contextlib.suppress(Killed):
        train(model, tokenizer(), EXAMPLES, settings, output, checkpoint_every=1, on_step=raise_at(2))


def together(folder: Path) -> None:
    """Two processes: a whole run, one that is stopped and resumed, and two without dropout."""
    dist.init_process_group("gloo")
    first = dist.get_rank() == 0
    results = {"whole": run(folder / "whole")}
    try:
        run(folder / "resumed", on_step=raise_at(6))
    except Killed:
        dist.barrier()
    steps: list[int] = []
    results["resumed"] = run(folder / "resumed", on_step=lambda step: steps.append(step.number), seed=1)
    for name, settings in WITHOUT_DROPOUT.items():
        results[name] = run(folder / name, settings, dropout=0.0)
        first_step(folder / f"first of {name}", settings)
    try:
        run(folder / ("whole" if first else "a folder of its own"))
    except InputError as error:
        (folder / f"refusal {dist.get_rank()}").write_text(str(error))
    if first:
        assert steps[0] == 6, steps  # the last state was that of step 5, at the epoch's end
        for name, tensors in results.items():
            save_file(tensors, folder / f"{name}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "killed":
        run(Path(sys.argv[2]), on_step=kill_at(int(sys.argv[3])))
    else:
        together(Path(sys.argv[2]))
