"""What `finetune` trains: a float encoder, or with --qat the graph of a model that rounds to 8 bits."""

import copy
from dataclasses import asdict, dataclass
from typing import Any

import click
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from commands.common import written
from models import load
from models.finetune import Distillation, weights_checksum
from models.finetune.dropout import ATTENTION, replace_dropout
from models.finetune.saving import SAVED
from toolkit import Recipe
from toolkit.fake_quantize import fake_quantize
from toolkit.report import CALIBRATED

RATE, QAT_RATE = 1e-4, 1e-5  # learning rates: of an encoder with a new head, of a model that is trained already

TEACHERS = ("distill_weight", "temperature")  # options about the teacher


@dataclass(frozen=True)
class Start:
    """model: what is saved in the end; trained: what computes, over the same parameters (often the model itself).

    checksum: of the weights that the run starts from; note: what the model is trained for, None for floats; known: the
    data that the integers it starts with were found with, None where they are the nearest, and for floats.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    trained: nn.Module
    teacher: nn.Module | None
    checksum: int
    note: dict[str, Any] | None
    known: dict[str, Any] | None = None


def start_of(base: str, dropout: float, recipe: Recipe | None, distill: bool) -> Start:
    """Loads `base`; with a recipe as the graph that rounds by it, beside the float model as teacher if `distill`.

    Raises InputError for a base that can't be loaded, with a recipe one without a question-answering head too.
    """
    if recipe is None:
        # Eager attention: PyTorch's fused attention has a backward on the CPU that is slower than the matmuls.
        model, tokenizer = load(base, new_head=True, dropout=dropout, attention=ATTENTION)
        replace_dropout(model)
        # The checksum is without the head, which the seed decides.
        return Start(model, tokenizer, model, None, weights_checksum(model.base_model), None)
    model, tokenizer = load(base)
    teacher = copy.deepcopy(model) if distill else None
    trained = fake_quantize(model, recipe, SAVED, model.name_or_path)
    note = {name: asdict(recipe)[name] for name in ("precision", "scheme", "symmetric")}
    return Start(model, tokenizer, trained, teacher, weights_checksum(model), note, trained.meta[CALIBRATED])


def recipe_of(activations: str) -> Recipe:
    return Recipe("int", symmetric=activations == "symmetric")


def distillation(distill: bool, weight: float, temperature: float) -> Distillation | None:
    return Distillation(weight, temperature) if distill else None


def check_qat(qat: bool, distill: bool) -> None:
    """Refuses options that would have no part in the run, rather than pass over them."""
    given = written()
    if not qat and (distill or "activations" in given):
        name = "distill" if distill else "activations"
        raise click.UsageError(f"--{name} is about a model that rounds to 8 bits: give --qat too, or leave it out")
    if qat and "dropout" in given:
        raise click.UsageError("--qat trains the graph as it answers, without dropout: leave out --dropout")
    for name in TEACHERS:
        if name in given and not distill:
            raise click.UsageError(f"--{name.replace('_', '-')} is about the teacher: give --distill too")
