"""Small fine-tuning runs; as a program, one that another process kills or that torchrun starts."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from models import InputError
from models.finetune import Settings, Step, averaging, train
from models.question_answering.examples import Example
from tests.models.samples import sample, tiny_bert, tokenizer

# 22 windows of at most 100 tokens: 5 steps an epoch, parts of unequal size on two processes.
SETTINGS = Settings(epochs=2, learning_rate=1e-2, batch_size=5, max_length=100, stride=16, bf16=False)
EXAMPLES = sample()[:14]
AVERAGED = replace(SETTINGS, average=0.6)  # of 10 steps those after 6, 8 and 10

WITHOUT_DROPOUT = {"parts of 3 and 2": AVERAGED, "parts of 1 and 0": replace(AVERAGED, batch_size=1, epochs=1)}


class Killed(Exception):
    """Stands for the end of a process."""


def nothing(step: Step) -> None:
    """What most runs do after a step."""


@contextlib.contextmanager
def averaging_every(steps: int) -> Iterator[None]:
    """A state is taken into the mean every so many steps: the real 50 are more than small runs have."""
    with patch.object(averaging, "EVERY", steps):
        yield


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
    """The weights after a run; a state is written, and taken into the mean, every 2 steps, written after each epoch."""
    model = tiny_bert(dropout, seed)
    with averaging_every(2):
        train(model, tokenizer(), examples, settings, output, checkpoint_every=2, on_step=on_step, **options)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def first_step(output: Path, settings: Settings) -> None:
    """Leaves the state of the first step in `output`: its first moments are a tenth of the gradients."""
    model = tiny_bert(dropout=0.0)
    with contextlib.suppress(Killed):
        train(model, tokenizer(), EXAMPLES, settings, output, checkpoint_every=1, on_step=raise_at(2))


def together(folder: Path) -> None:
    """Two processes, with the mean of the last weights: a whole run, one stopped and resumed, two without dropout."""
    dist.init_process_group("gloo")
    first = dist.get_rank() == 0
    results = {"whole": run(folder / "whole", AVERAGED)}
    try:
        run(folder / "resumed", AVERAGED, raise_at(8))
    except Killed:
        dist.barrier()
    steps: list[int] = []
    results["resumed"] = run(folder / "resumed", AVERAGED, lambda step: steps.append(step.number), seed=1)
    for name, settings in WITHOUT_DROPOUT.items():
        results[name] = run(folder / name, settings, dropout=0.0)
        first_step(folder / f"first of {name}", settings)
    try:
        run(folder / ("whole" if first else "a folder of its own"), AVERAGED)
    except InputError as error:
        (folder / f"refusal {dist.get_rank()}").write_text(str(error))
    if first:
        assert steps[0] == 7, steps  # the last state was that of step 6, the first that is in the mean
        for name, tensors in results.items():
            save_file(tensors, folder / f"{name}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "killed":
        run(Path(sys.argv[2]), AVERAGED, kill_at(int(sys.argv[3])))
    else:
        together(Path(sys.argv[2]))
