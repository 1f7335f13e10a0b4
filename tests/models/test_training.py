"""Fine-tuning: the schedule, the loss, and that a model learns."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import InputError, load
from models.finetune import Settings, Step, save_model, train
from models.finetune.losses import span_loss
from models.finetune.sampling import TrainingWindow, training_windows
from models.finetune.training import schedule
from models.question_answering.features import Window
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, predict
from tests.models.runs import EXAMPLES, SETTINGS, raise_at, run
from tests.models.samples import sample, tiny_bert, tokenizer

FEW = Settings(epochs=60, learning_rate=2e-2, batch_size=8, max_length=140, stride=32, unanswerable=0.0, bf16=False)


@pytest.mark.parametrize(
    ("total", "warmup", "factors"),
    [
        (10, 0.2, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (4, 0.0, [1.0, 1.0, 2 / 3, 1 / 3]),
        (4, 0.5, [0.5, 1.0, 1.0, 0.5]),
        (3, 1.0, [1 / 3, 2 / 3, 1.0]),
        (1, 0.1, [1.0]),
    ],
)
def test_the_schedule(total: int, warmup: float, factors: list[float]) -> None:
    assert [schedule(step, total, warmup) for step in range(total)] == pytest.approx(factors, abs=1e-12)
    assert schedule(total, total, warmup) == 0.0


def test_the_loss_by_hand() -> None:
    nowhere = Window(0, [0, 0, 0], None, [None] * 3)
    items = [TrainingWindow(nowhere, 0, 0), TrainingWindow(nowhere, 1, 2)]
    starts = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    ends = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    # −log softmax: ln(e²+2)−2, ln(e+2)−1, ln 3, ln(e³+2)−3; the mean over two windows and two ends
    expected = (0.2395447662 + 0.5514447139 + 1.0986122887 + 0.0949225066) / 4
    assert span_loss(starts, ends, items).item() == pytest.approx(expected, abs=1e-6)
    padded = [torch.cat([logits, torch.full((2, 5), 7.0)], dim=1) for logits in (starts, ends)]
    assert span_loss(*padded, items).item() == pytest.approx(expected, abs=1e-6)
    loss = span_loss(starts.bfloat16(), ends.bfloat16(), items)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_eight_questions_are_learnt_by_heart(tmp_path: Path, bf16: bool) -> None:
    asked, losses, epochs = sample()[:8], [], []
    model = tiny_bert(dropout=0.0)
    settings = replace(FEW, bf16=bf16)
    train(model, tokenizer(), asked, settings, tmp_path, on_step=lambda step: losses.append(step.loss),
          on_epoch=epochs.append)  # fmt: skip
    assert epochs == list(range(1, settings.epochs + 1))
    assert losses[0] > 3 and sum(losses[-4:]) / 4 < 0.5
    assert not model.training
    texts = answer_texts(asked, predict(model, tokenizer(), asked, 4, settings.max_length, settings.stride))
    assert evaluate(asked, texts)["exact_match"] >= 75


def test_a_model_is_saved_for_load(tmp_path: Path) -> None:
    model = tiny_bert()
    save_model(model, tokenizer(), tmp_path / "new" / "folder")
    loaded, split = load(str(tmp_path / "new" / "folder"))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float())
    assert split("Curie was born.")["input_ids"] == tokenizer()("Curie was born.")["input_ids"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    save_model(model, tokenizer(), tmp_path / "new" / "folder")  # over an older one
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in files] == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {stat.S_IMODE(files[0].stat().st_mode)}


def test_steps_are_told_with_their_numbers(tmp_path: Path) -> None:
    steps: list[Step] = []
    run(tmp_path, on_step=steps.append)
    total = len(steps)
    assert [(step.number, step.total) for step in steps] == [(number, total) for number in range(1, total + 1)]
    assert [step.epoch for step in steps] == [0] * (total // 2) + [1] * (total // 2)


def test_few_steps_of_endless_epochs_and_the_largest_seed(tmp_path: Path) -> None:
    """Steps that are not taken are not planned, and what each step draws from is a seed that PyTorch takes."""
    steps: list[Step] = []
    settings = replace(SETTINGS, epochs=10**20, max_steps=2, seed=2**63 - 1)
    train(tiny_bert(), tokenizer(), EXAMPLES, settings, tmp_path, on_step=steps.append)
    assert [(step.number, step.total) for step in steps] == [(1, 2), (2, 2)]


def test_the_samples_batches_are_uneven() -> None:
    count = len(training_windows(tokenizer(), EXAMPLES, SETTINGS.max_length, SETTINGS.stride))
    assert count > 2 * SETTINGS.batch_size and SETTINGS.batch_size % 2 == 1


def test_windows_longer_than_the_models_positions_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="positions for 64.*--max-length"):
        train(tiny_bert(positions=64), tokenizer(), EXAMPLES, SETTINGS, tmp_path)


def test_a_loss_that_is_no_number_is_one_line(tmp_path: Path) -> None:
    model = tiny_bert()

    def on_step(step: Step) -> None:
        if step.number == 2:
            torch.nn.init.constant_(model.qa_outputs.bias, float("nan"))

    with pytest.raises(InputError, match="loss of step 3 is nan: lower --learning-rate"):
        train(model, tokenizer(), EXAMPLES, SETTINGS, tmp_path, on_step=on_step)


@pytest.mark.parametrize("held", ["config.json", "model.safetensors"])
def test_a_model_that_no_run_left_is_not_written_over(held: str, tmp_path: Path) -> None:
    """The base's own folder, for one."""
    (tmp_path / held).write_text("whole")
    with pytest.raises(InputError, match=f"{tmp_path} holds {held}, which no fine-tuning left: give another --output"):
        run(tmp_path, on_step=raise_at(1))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_a_run_writes_over_its_own(tmp_path: Path) -> None:
    run(tmp_path)
    save_model(tiny_bert(), tokenizer(), tmp_path)
    run(tmp_path, resume=False)


def test_a_folder_that_cannot_be_made_is_told_before_the_first_step() -> None:
    with pytest.raises(InputError, match="/proc can't be written to .*: give another --output"):
        run(Path("/proc/below"), on_step=raise_at(1))


def test_weights_that_half_precision_does_not_hold_are_not_written(tmp_path: Path) -> None:
    model = tiny_bert()
    torch.nn.init.constant_(model.qa_outputs.bias, 1e5)
    with pytest.raises(InputError, match="qa_outputs.bias .*float16.*: lower --learning-rate"):
        save_model(model, tokenizer(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_an_output_that_cannot_be_a_folder_is_told_before_the_first_step(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{tmp_path}/file is a file.*--output"):
        run(tmp_path / "file" / below, on_step=raise_at(1))
