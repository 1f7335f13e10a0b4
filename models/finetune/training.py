"""SQuAD fine-tuning: AdamW, linear warm-up and decay, checkpoints, the same result after a kill as without."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedTokenizerFast

from models.errors import InputError
from models.finetune.averaging import WeightMean, takes
from models.finetune.checkpoint import FILE, check_folder, load_state, save_state
from models.finetune.dropout import Dropout
from models.finetune.losses import Distillation, total_loss
from models.finetune.sampling import TrainingWindow, checksum, epoch_batches, training_windows, unanswerable
from models.finetune.saving import round_as_saved
from models.question_answering.examples import Example
from models.question_answering.features import collate

SEEDS = 2**63  # what PyTorch takes lies below


@dataclass(frozen=True)
class Settings:
    """What decides a run's result.

    `batch_size` counts windows a step over all processes together; `average` is the share of the steps, the last
    ones, over which the result is the mean of the weights (0: the last weights as they are). `max_steps` ends the
    run, and its schedule, early. `qat` names the rounding that the model trains through: the result is then rounded
    as it is saved, so that it stays what was evaluated.
    """

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 16
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    max_length: int = 384
    stride: int = 128
    unanswerable: float = 0.1
    average: float = 0.0
    bf16: bool = True
    seed: int = 0
    max_steps: int | None = None
    qat: str | None = None
    distillation: Distillation | None = None


@dataclass(frozen=True)
class Step:
    """One finished step, for whoever shows progress: the loss is of this process's part of the batch."""

    number: int
    total: int
    epoch: int
    loss: float


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    settings: Settings,
    output: Path,
    resume: bool = True,
    checkpoint_every: int = 250,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    base: int = 0,
    teacher: nn.Module | None = None,
) -> None:
    """Fine-tunes `model` in place; state goes to `output` every `checkpoint_every` steps and epochs.

    `base` says which weights the run starts from (their `weights_checksum`): a state of others isn't resumed.
    `teacher` is what `settings.distillation` needs; it stays as it is.

    Under torchrun each process takes its share of every batch, so that the result is that of one
    process up to rounding. Raises InputError when the state in `output` can't be resumed, a window is
    longer than the model's positions, or the loss is no number.
    """
    check_folder(output)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    examples = [*examples, *unanswerable(examples, settings.unanswerable, settings.seed)]
    data = training_windows(tokenizer, examples, settings.max_length, settings.stride)
    lengths = [len(item.window) for item in data]
    _check_positions(model, max(lengths))
    batches = (
        (epoch, batch)
        for epoch in range(settings.epochs)
        for batch in epoch_batches(lengths, settings.batch_size, settings.seed, epoch)
    )
    plan = list(islice(batches, settings.max_steps))
    optimizer = _optimizer(model, settings)
    dropout = sorted({module.p for module in model.modules() if isinstance(module, (nn.Dropout, Dropout))})
    run = {**asdict(settings), "dropout": dropout, "data": checksum(examples), "processes": world, "base": base}
    mean = WeightMean()
    done = load_state(output, model, optimizer, mean, run) if resume else 0
    _check_step(output / FILE, done, len(plan), world)
    stepped = DistributedDataParallel(model) if world > 1 else model
    model.train()
    for number, (epoch, batch) in enumerate(plan[done:], start=done + 1):
        rate = settings.learning_rate * schedule(number - 1, len(plan), settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        mine = batch[rank::world] or batch[:1]  # a process without a part still has to take its step
        # Seeded a step, not once: a resumed run draws the same dropout without a saved random state.
        torch.manual_seed(((settings.seed * world + rank) * 1_000_003 + number) % SEEDS)
        # DDP takes the plain mean over the processes: this makes it the mean over the batch.
        weight = len(batch[rank::world]) * world / len(batch)
        loss = _step(stepped, optimizer, [data[i] for i in mine], weight, tokenizer.pad_token_id, settings, teacher)
        if not math.isfinite(loss):
            raise InputError(f"the loss of step {number} is {loss}: lower --learning-rate, with --no-resume")
        if takes(number, len(plan), settings.average):
            mean.add(model)
        on_step(Step(number, len(plan), epoch, loss))
        epoch_ends = number == len(plan) or plan[number][0] != epoch
        if rank == 0 and (epoch_ends or number % checkpoint_every == 0):
            save_state(output, model, optimizer, mean, number, run)
        if number == len(plan):
            _finish(model, mean, settings)
        if epoch_ends:
            model.eval()
            on_epoch(epoch + 1)
            model.train()
    if done == len(plan):
        _finish(model, mean, settings)
    model.eval()


def _finish(model: nn.Module, mean: WeightMean, settings: Settings) -> None:
    mean.put_into(model)
    if settings.qat:
        round_as_saved(model)


def schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate: up from 0 over `warmup`·total steps, then down to 0, both linear."""
    rising = max(1, round(warmup * total))
    return (step + 1) / rising if step < rising else max(0.0, (total - step) / max(1, total - rising))


def _check_positions(model: nn.Module, longest: int) -> None:
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise InputError(f"a window has {longest} tokens, the model positions for {positions}: lower --max-length")


def _check_step(path: Path, done: int, total: int, world: int) -> None:
    if done > total:  # the same questions, but other windows: another tokenizer
        raise InputError(f"{path} is of step {done}, this run has {total}: use the same --base, or --no-resume")
    if world == 1:
        return
    steps: list[int] = [0] * world
    dist.all_gather_object(steps, done)
    if len(set(steps)) > 1:
        raise InputError(f"the processes resume at different steps {steps}: give an --output that all of them share")


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; biases and LayerNorm's weights (all one-dimensional) aren't decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    items: list[TrainingWindow],
    weight: float,
    pad_token_id: int,
    settings: Settings,
    teacher: nn.Module | None,
) -> float:
    batch = collate([item.window for item in items], pad_token_id)
    taught = None
    if teacher is not None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            taught = teacher(**batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
        output = model(**batch)
    loss = total_loss(output, items, settings.distillation, taught)
    (loss * weight).backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()
