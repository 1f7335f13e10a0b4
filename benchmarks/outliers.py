"""What 8 bits do to models with outlier channels: `python -m benchmarks.outliers --shape bert-large`.

Real transformers have a few channels that are 20 to 60 times the rest after every LayerNorm (Dettmers et al. 2022,
Bondarenko et al. 2021); random weights have none, so they are planted.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import click
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import targets
from benchmarks.inputs import random_batch, random_model
from benchmarks.one_line import OneLine
from toolkit import Recipe, transform
from toolkit.recipe import SCHEMES
from toolkit.sensitivity.fidelity import Fidelity

OUTLIERS = 6  # channels; BERT-base has about as many
LEAST, MOST = 20.0, 60.0  # times the median channel
NOTHING = {"smooth": False, "clip": False, "compensate": False, "correct_bias": False}
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain", NOTHING),
    ("smooth", {**NOTHING, "smooth": True}),
    ("rotate", {**NOTHING, "rotate": True}),
    ("default", {}),
    ("default, rotate", {"rotate": True}),
)


@torch.no_grad()
def plant(model: nn.Module, batch: dict[str, Tensor], outliers: int = OUTLIERS, seed: int = 0) -> list[int]:
    """Makes `outliers` channels, the same ones after every LayerNorm of `model`, LEAST to MOST times as large as the
    median channel on `batch`, by γ and β, in place. → the channels"""
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    channels = torch.randperm(norms[0].normalized_shape[0], generator=generator)[:outliers]
    times = LEAST + (MOST - LEAST) * torch.rand(outliers, generator=generator)

    def hook(norm: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        size = y.flatten(0, -2).square().mean(0).sqrt()
        factor = times * size.median() / size[channels].clamp(min=1e-6)
        for parameter in (norm.weight, norm.bias):
            parameter[channels] *= factor  # type: ignore[index, operator]
        y[..., channels] *= factor
        return y

    handles = [norm.register_forward_hook(hook) for norm in norms]
    model(**batch)
    for handle in handles:
        handle.remove()
    return sorted(channels.tolist())


def planted(shape: str, length: int = 128) -> tuple[PreTrainedModel, list[dict[str, Tensor]]]:
    """A shape of BERT → a random model with outliers, and batches int64 [4, length]: the last to measure on, the others
    to calibrate with."""
    model = random_model(shape)
    ids = random_batch(model, 20, length)
    batches = [{name: value[first : first + 4] for name, value in ids.items()} for first in range(0, 20, 4)]
    plant(model, batches[0])
    return model, batches


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        output = model(**batch)
    return torch.stack([output.start_logits, output.end_logits]).double()


def rows(model: nn.Module, batches: list[dict[str, Tensor]], target: str, schemes: Iterable[str]) -> Iterable[str]:
    """→ one line for each scheme, kind of activation, and with or without smoothing, rotation and the rest"""
    expected = logits(model, batches[-1])
    for scheme in schemes:
        for symmetric in (True, False):
            for how, steps in STEPS:
                recipe = replace(Recipe(precision="int", scheme=scheme, symmetric=symmetric), **steps)
                graph = transform(model, recipe, target, data=batches[:-1])
                kind = "symmetric" if symmetric else "asymmetric"
                found = Fidelity()
                found.add(expected, logits(graph, batches[-1]))
                yield f"{scheme:<8} {kind:<11} {how:<15} {found.sqnr_db:6.2f} dB"


@click.command(cls=OneLine)
@click.option("--shape", type=click.Choice(["bert-base", "bert-large"]), default="bert-base", show_default=True)
@click.option("--target", default="customcpu", show_default=True)
@click.option("--scheme", "schemes", multiple=True, default=("dynamic",), show_default=True,
              type=click.Choice(SCHEMES), help="Repeatable.")  # fmt: skip
@click.option("--length", type=click.IntRange(1), default=128, show_default=True, help="Tokens a sequence.")
def main(shape: str, target: str, schemes: tuple[str, ...], length: int) -> None:
    """SQNR of a random model's logits, with outlier channels planted, INT8 against float."""
    targets.require_runnable(targets.get(target), "int", strict=False)  # before a model is made
    model, batches = planted(shape, length)
    for line in rows(model, batches, target, schemes):
        click.echo(line)


if __name__ == "__main__":
    main()
