"""`finetune`: a base encoder and SQuAD files into a question-answering model folder."""

import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import torch
import torch.distributed as dist

from commands.calibrate import calibrate_trained
from commands.common import SEED, Options, err, finite, out, print_json, progress_bar, refuse, written
from commands.graph import use_threads
from commands.recipe import HOW_INT
from commands.texts import window_options
from commands.training import QAT_RATE, RATE, Start, check_qat, distillation, recipe_of, start_of
from models.finetune import Settings, Step, save_model, train
from models.finetune.averaging import EVERY
from models.finetune.losses import Distillation
from models.memory import keep_freed_memory
from models.question_answering.examples import Example, read_examples
from models.question_answering.features import stride_of
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, predict
from models.texts import longest_row
from targets._hardware import cpu_name

# options before the command that have no part in it, and why
MEANINGLESS = {
    "scheme": "quantizes nothing",
    "model": "starts from --base",
    "without": "fuses nothing",
    "recipe": "rounds all layers alike",
    **dict.fromkeys(HOW_INT, "trains, and quantizes nothing"),
    "strict": "has one way to run, and never falls back",
}
LINE_EVERY = 50  # steps between lines where standard error is no terminal


@click.command("finetune")
@click.option("--base", default="all-minilm-l6-v2", show_default=True,
              help="Encoder, or with --qat a question-answering model: name or folder.")  # fmt: skip
@click.option("--train", "train_files", multiple=True, required=True, help="SQuAD file; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), required=True,
              help="Folder to write: a new one, or an earlier run's.")  # fmt: skip
@click.option("--eval-data", help="SQuAD file for the evaluation after each epoch.")
@click.option(
    "--eval-limit", default=500, show_default=True, type=click.IntRange(0), help="Questions of it; 0 for all."
)
@click.option("--epochs", default=3, show_default=True, type=click.IntRange(1))
@click.option("--max-steps", type=click.IntRange(1), help="End after so many steps, and the schedule with them.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), callback=finite,
              help=f"[default: {RATE}, with --qat {QAT_RATE}]")  # fmt: skip
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Over all processes.")
@click.option("--warmup", default=0.1, show_default=True, type=click.FloatRange(0, 1), callback=finite,
              help="Share of all steps.")  # fmt: skip
@click.option("--dropout", default=0.1, show_default=True, type=click.FloatRange(0, 1, max_open=True), callback=finite,
              help="Rate, rounded to a multiple of 1/128; none with --qat.")  # fmt: skip
@click.option("--average", default=0.0, show_default=True, type=click.FloatRange(0, 1), callback=finite,
              help="Share of the steps, the last ones: the result is the mean of the weights over them, taken every "
              f"{EVERY} steps; 0 for the last weights.")  # fmt: skip
@click.option(
    "--unanswerable",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    callback=finite,
    help="Questions on a wrong passage of their article, as a share: they teach 'no answer'.",
)
@window_options
@click.option("--limit", type=click.IntRange(1), help="Take the first N questions only.")
@click.option("--qat", is_flag=True, help="Train through the rounding to 8 bits (dynamic), in the captured graph.")
@click.option("--activations", default="asymmetric", show_default=True, type=click.Choice(["symmetric", "asymmetric"]),
              help="With --qat: how rows of activations are rounded.")  # fmt: skip
@click.option("--distill", is_flag=True, help="With --qat: the float base teaches.")
@click.option("--distill-weight", default=Distillation.weight, show_default=True, type=click.FloatRange(0, 1),
              callback=finite, help="The teacher's share of the loss; the rest is the answers'.")  # fmt: skip
@click.option("--temperature", default=Distillation.temperature, show_default=True,
              type=click.FloatRange(0, min_open=True), callback=finite,
              help="What the logits are divided by for the teacher's share.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED)
@click.option("--bf16/--no-bf16", default=None, help="Default: where the CPU has AVX512-BF16 or AMX.")
@click.option("--calibrate/--no-calibrate", default=None,
              help="Leave with the model how it is best rounded to 8 bits; never with --qat.  "
              "[default: calibrate]")  # fmt: skip
@click.option("--checkpoint-every", default=250, show_default=True, type=click.IntRange(1), help="Steps.")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Go on from --output's state.")
@click.pass_obj
def command(options: Options, base: str, train_files: tuple[str, ...], output: Path, eval_data: str | None,
             eval_limit: int, dropout: float, limit: int | None, bf16: bool | None, checkpoint_every: int,
             calibrate: bool | None, resume: bool, qat: bool, activations: str, distill: bool, distill_weight: float,
             temperature: float, learning_rate: float | None, max_length: int | None, stride: int | None,
             **numbers: Any) -> None:  # fmt: skip
    """Fine-tune an encoder on SQuAD, or with --qat a whole model for 8 bits. Runs under torchrun on many processes."""
    _check_options(options)
    check_qat(qat, distill)
    if qat:
        refuse(written(), ("calibrate",), "has no part in --qat, which rounds as it trained")
    if not eval_data:
        refuse(written(), ("eval_limit",), "shortens --eval-data FILE, which is not given")
    recipe = recipe_of(activations) if qat else None
    examples = [example for file in train_files for example in read_examples(file)][:limit]
    held_out = read_examples(eval_data, eval_limit or None) if eval_data else []
    keep_freed_memory()
    use_threads(options)
    torch.manual_seed(numbers["seed"])  # the new head is drawn from it
    start = start_of(base, 0.0 if qat else dropout, recipe, distill)
    length = longest_row(start.tokenizer, start.model.config, max_length)
    settings = Settings(
        bf16=torch.cpu._is_avx512_bf16_supported() if bf16 is None else bf16,
        learning_rate=learning_rate or (QAT_RATE if qat else RATE),
        qat=f"{recipe.scheme} {activations}" if recipe else None,
        distillation=distillation(distill, distill_weight, temperature),
        max_length=length,
        stride=stride_of(length, stride),
        **numbers,
    )
    main = _join_processes()
    history: list[dict[str, float]] = []
    with progress_bar("loss") as bar:
        task = bar.add_task("fine-tuning", total=None, loss="", visible=main and err.is_terminal)
        mean = [0.0]

        def on_step(step: Step) -> None:
            mean[0] = step.loss if not mean[0] else 0.98 * mean[0] + 0.02 * step.loss
            bar.update(task, completed=step.number, total=step.total, loss=f"loss {mean[0]:.3f}")
            if main and not err.is_terminal and step.number % LINE_EVERY == 0:
                left = bar.tasks[task].time_remaining
                err.print(f"step {step.number}/{step.total} epoch {step.epoch + 1} loss {mean[0]:.3f} left {left} s")

        def on_epoch(epoch: int) -> None:
            if main and held_out:
                history.append({"epoch": epoch, "loss": mean[0], **_measure(start, held_out, settings)})
                err.print(f"epoch {epoch}: " + json.dumps(history[-1]))

        train(start.trained, start.tokenizer, examples, settings, output, resume, checkpoint_every, on_step, on_epoch,
              start.checksum, start.teacher)  # fmt: skip
    if main:
        save_model(start.model, start.tokenizer, output, start.note)
        wanted = not qat and calibrate is not False
        calibration = calibrate_trained(output, examples, train_files) if wanted else start.known
        result = {**_header(base, settings.bf16, recipe.scheme if recipe else None), "output": str(output)}
        result |= {"calibration": calibration, "dropout": 0.0 if qat else dropout, **asdict(settings)}
        result["history"] = history
        print_json(result) if options.json else out.print(f"wrote {output}")
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_options(options: Options) -> None:
    """Refuses what an option before the command would have no part in, rather than pass over it."""
    if options.target != "cpu":
        raise click.UsageError(f"finetune runs on the CPU: leave out --target {options.target}")
    if options.precision != "fp":
        raise click.UsageError(f"finetune trains in float: not --precision {options.precision} but --bf16 or --no-bf16")
    for name, why in MEANINGLESS.items():
        if name in options.given:
            raise click.UsageError(f"finetune {why}: leave out --{name}")


def _header(base: str, bf16: bool, scheme: str | None) -> dict[str, Any]:
    isa = torch.backends.cpu.get_cpu_capability()
    target = {
        "requested": "cpu",
        "executed": "cpu",
        "native": True,
        "device": cpu_name(),
        "isa": isa,
        "reason": None,
    }
    return {"target": target, "model": base, "precision": "bf16" if bf16 else "fp", "scheme": scheme}


def _measure(start: Start, held_out: list[Example], settings: Settings) -> dict[str, float]:
    answers = predict(start.trained, start.tokenizer, held_out, 16, settings.max_length, settings.stride)
    return evaluate(held_out, answer_texts(held_out, answers))


def _join_processes() -> bool:
    """Joins torchrun's other processes, if any; whether this one is the first."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The others wait while the first one evaluates: longer than gloo's half hour.
        dist.init_process_group("gloo", timeout=timedelta(days=1))
        return dist.get_rank() == 0
    return True
