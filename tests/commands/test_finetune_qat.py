"""`finetune --qat`: what is saved quantizes to the integers that were trained with, after a kill too."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from commands.training import distillation, recipe_of
from models import InputError, load
from models.finetune import Settings, Step, save_model, train
from models.finetune.saving import NOTE, SAVED
from operators import reference
from targets import cpu
from targets._linear import Activation, QuantizedLinear
from tests.checks import assert_equal_bits
from tests.cli import Cli
from tests.models.runs import AVERAGED, EXAMPLES, SETTINGS, Killed, averaging_every, nothing, raise_at
from tests.models.samples import SQUAD, tiny_bert, tiny_folder, tokenizer
from toolkit import capture
from toolkit.fake_quantize import FakeQuantizedLinear, fake_quantize, open_attention
from toolkit.pipeline import PASSES, run
from toolkit.quantize import quantize

DATA = str(SQUAD / "sample-v1.1.json.gz")
FEW = ("--epochs", "2", "--limit", "14", "--batch-size", "5", "--max-length", "100", "--stride", "16")
TAUGHT = replace(AVERAGED, qat="dynamic symmetric", distillation=distillation(True, 0.5, 2.0))
BATCH = {"input_ids": torch.arange(1000, 1024).view(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}


def trained(output: Path, settings: Settings = TAUGHT, on_step=nothing, activations: str = "symmetric", **options):
    """→ the eager model and its graph after a run; a state is written every 2 steps."""
    model = tiny_bert(dropout=0.0)
    model.set_attn_implementation("sdpa")  # as `load` has it
    teacher = copy.deepcopy(model) if settings.distillation else None
    graph = fake_quantize(model, recipe_of(activations), SAVED)
    with averaging_every(2):
        train(graph, tokenizer(), EXAMPLES, settings, output, checkpoint_every=2, on_step=on_step, teacher=teacher,
              **options)  # fmt: skip
    return model, graph


def accumulators(weight: Tensor, x: Tensor, symmetric: bool) -> Tensor:
    """weight int8 [N, K], x float32 [..., K] → int32 [M, N]"""
    q, _, zero = reference.quantize_per_token(x, symmetric)
    return (q.int() - zero[:, None]) @ weight.int().t()


def seen(graph: torch.fx.GraphModule) -> tuple[dict[str, Tensor], Tensor]:
    """→ what every linear is given for BATCH, by its name, and the start logits"""
    inputs: dict[str, Tensor] = {}
    for name, module in graph.named_modules():
        if isinstance(module, (FakeQuantizedLinear, cpu.IntLinear)):
            module.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
    with torch.no_grad():
        return inputs, graph(**BATCH).start_logits


@pytest.mark.parametrize("activations", ["symmetric", "asymmetric"])
def test_what_is_saved_quantizes_to_the_integers_of_training(activations: str, tmp_path: Path) -> None:
    model, graph = trained(tmp_path / "run", activations=activations)
    save_model(model, tokenizer(), tmp_path / "saved")
    again = capture(load(str(tmp_path / "saved"))[0])
    run(again, (*PASSES, open_attention))
    quantize(again, recipe_of(activations))
    quantized = {name: module for name, module in again.named_modules() if isinstance(module, QuantizedLinear)}
    cpu.lower(again, recipe_of(activations))
    (inputs, logits), (wanted_inputs, wanted) = seen(graph), seen(again)
    assert inputs.keys() == wanted_inputs.keys() == quantized.keys() and len(inputs) == 6
    symmetric = activations == "symmetric"
    for name, of_saved in quantized.items():
        weight = graph.get_submodule(name).integers()[0]
        assert torch.equal(weight, of_saved.weight), name
        have = accumulators(weight, inputs[name], symmetric)
        want = accumulators(of_saved.weight, wanted_inputs[name], symmetric)
        assert have.dtype == torch.int32 and torch.equal(have, want), name
    assert_equal_bits(logits, wanted)


def test_the_integers_of_a_step_are_those_of_its_weights_as_they_would_be_saved(tmp_path: Path) -> None:
    def compare(step: Step) -> None:
        for _, module in graph.named_modules():
            if isinstance(module, FakeQuantizedLinear):
                linear = torch.nn.Linear(module.weight.shape[1], module.weight.shape[0])
                linear.weight.data = module.weight.detach().half().float()
                assert torch.equal(module.integers()[0], QuantizedLinear.from_linear(linear, Activation()).weight)

    graph = fake_quantize(tiny_bert(dropout=0.0), recipe_of("symmetric"), SAVED)
    train(graph, tokenizer(), EXAMPLES, replace(SETTINGS, qat="dynamic symmetric"), tmp_path, on_step=compare)


@pytest.mark.parametrize("ended_at", [4, 10])
def test_a_run_that_was_ended_is_resumed_to_the_bit(ended_at: int, tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "ended", on_step=raise_at(ended_at))
    resumed, _ = trained(tmp_path / "ended")
    for name, value in whole.state_dict().items():
        assert_equal_bits(resumed.state_dict()[name], value, name)


@pytest.mark.parametrize(
    "other",
    [
        {"qat": None},
        {"qat": "dynamic asymmetric"},
        {"distillation": None},
        {"distillation": distillation(True, 0.5, 3.0)},
        {"max_steps": 9},
    ],
    ids=str,
)
def test_a_run_with_another_rounding_or_teacher_is_not_resumed(other: dict, tmp_path: Path) -> None:
    trained(tmp_path, replace(TAUGHT, epochs=1))
    with pytest.raises(InputError, match=f"is of a run with {next(iter(other))}="):
        trained(tmp_path, replace(TAUGHT, epochs=1, **other))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_questions_are_learnt_by_heart_through_the_rounding(bf16: bool, tmp_path: Path) -> None:
    losses: list[float] = []
    settings = Settings(epochs=40, learning_rate=2e-2, batch_size=8, max_length=140, stride=32, unanswerable=0.0,
                        bf16=bf16, qat="dynamic symmetric")  # fmt: skip
    graph = fake_quantize(tiny_bert(dropout=0.0), recipe_of("symmetric"), SAVED)
    train(graph, tokenizer(), EXAMPLES[:8], settings, tmp_path, on_step=lambda step: losses.append(step.loss))
    assert losses[0] > 3 and sum(losses[-4:]) / 4 < 1


def test_the_student_comes_near_its_teacher(tmp_path: Path) -> None:
    """From other weights than the teacher's, with its answers alone."""
    losses: list[float] = []
    graph, teacher = fake_quantize(tiny_bert(0.0, seed=1), recipe_of("symmetric"), SAVED), tiny_bert(0.0)
    teacher.qa_outputs.weight.data *= 30  # a teacher that is sure of something
    before = copy.deepcopy(teacher.state_dict())
    settings = Settings(epochs=20, learning_rate=1e-2, batch_size=8, max_length=100, stride=16, unanswerable=0.0,
                        bf16=False, qat="dynamic symmetric", distillation=distillation(True, 1.0, 2.0))  # fmt: skip
    train(graph, tokenizer(), EXAMPLES[:8], settings, tmp_path, on_step=lambda step: losses.append(step.loss),
          teacher=teacher)  # fmt: skip
    assert sum(losses[-2:]) < sum(losses[:2]) / 2
    for name, value in teacher.state_dict().items():
        assert_equal_bits(value, before[name], "a teacher doesn't learn")


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    base, output = str(tiny_folder(tmp_path / "base")), tmp_path / "out"
    how = ("--qat", "--distill", "--max-steps", "4", "--no-bf16", "--learning-rate", "0.01")
    files = ("--base", base, "--train", DATA, "--eval-data", DATA, "--eval-limit", "6", "--output", str(output))
    done = cli("--json", "finetune", *files, *FEW, *how)
    assert done.code == 0, done.err
    assert (done.json["scheme"], done.json["qat"], done.json["max_steps"]) == ("dynamic", "dynamic asymmetric", 4)
    assert done.json["distillation"] == {"weight": 0.9, "temperature": 2.0} and done.json["dropout"] == 0.0
    assert len(done.json["history"]) == 1
    config = json.loads((output / "config.json").read_text())
    assert config[NOTE] == {"precision": "int", "scheme": "dynamic", "symmetric": False}
    written, before = load_file(output / "model.safetensors"), load_file(Path(base) / "model.safetensors")
    assert written.keys() == before.keys()
    assert not torch.equal(written["qa_outputs.weight"].float(), before["qa_outputs.weight"])
    plain = tmp_path / "plain"
    assert (
        cli("finetune", "--base", str(output), "--train", DATA, "--output", str(plain), *FEW, "--limit", "1").code == 0
    )
    assert NOTE not in json.loads((plain / "config.json").read_text())


def test_a_base_without_a_head_is_refused(cli: Cli, tmp_path: Path) -> None:
    tiny_bert().bert.save_pretrained(tmp_path / "base")
    for file in Path(tiny_folder(tmp_path / "whole")).glob("tokenizer*"):
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    done = cli("finetune", "--qat", "--base", str(tmp_path / "base"), "--train", DATA, "--output", str(tmp_path / "o"))
    done.fails_in_one_line(1, "fine-tuned for question answering")
