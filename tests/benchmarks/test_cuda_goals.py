"""The benchmark of cuda's goals without a GPU: how results are judged and told; engines and times are made up."""

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import cuda_goals, cuda_steps, cuda_work
from benchmarks.cuda_goals import GOALS, Goal, judged, markdown
from benchmarks.cuda_steps import PEER
from benchmarks.cuda_work import Work, longer, times
from models import InputError
from models.question_answering.examples import read_examples
from targets import TargetUnavailable
from tests import tiny
from tests.toolkit.test_cache import language_model, llama

LATENCY, RATE = Goal("one", "ms", 2.0), Goal("many", "samples/s", 1000)


def test_the_better_of_ours_is_held_against_the_goal():
    given = {"opswap int": [1.9, 1.8, 5.0], "opswap fp8": [2.5], "torch.compile bf16": [2.8], "torchao int8": "broken"}
    found = judged(LATENCY, given, 1)
    assert (found["best"], found["met"], found["figures"]["opswap int"]) == ("opswap int", True, 1.9)
    assert found["faster"] == {"torch.compile bf16": {"times": 1.474, "wanted": 1.5, "met": False}}
    assert found["left_out"] == {"torchao int8": "broken"}


def test_rates_are_of_samples():
    found = judged(RATE, {"opswap int": [100.0], "opswap fp8": [50.0], "torchao fp8": [65.0]}, 49)
    assert found["figures"]["opswap fp8"] == 980 and found["met"] is False
    assert found["faster"]["torchao fp8"] == {"times": 1.3, "wanted": 1.3, "met": True}


def test_where_nothing_of_ours_ran_nothing_is_met():
    found = judged(LATENCY, {"opswap int": "no", "torch.compile bf16": [1.0]}, 1)
    assert found["best"] is None and found["met"] is None and found["faster"] == {}


def test_all_is_told():
    goals = [judged(LATENCY, {"opswap int": [1.5], "torchao int8": "broken", "torch.compile bf16": [3.0]}, 1)]
    drops = {"fp": 77.0, "int": 76.95, "fp8": 76.5, "int drop": 0.05, "fp8 drop": 0.5}
    steps = [cuda_steps.told("some model", {"opswap int": [500.0], PEER: [1000.0], "opswap fp8": "no"}, 2)]
    text = markdown({"device": "a GPU", "torch": "2", "goals": goals, "steps": steps, "f1": drops})
    for line in (
        "| one | ≤ 2 ms | 1.5 (opswap int) | yes |",
        "| times as fast as torch.compile bf16 | ≥ 1.5 | 2.0 | yes |",
        "| times as fast as torchao int8 | ≥ 1.3 | not measured | – |",
        "| one | torchao int8 | not measured: broken |",
        "| tokens/s of `generate`, some model | – | 1024.0 (opswap int) | – |",
        "| times as fast as torch.compile bf16 | – | 2.000 | – |",
        "| some model | torch.compile bf16 | 512.0 tokens/s |",
        "| some model | opswap fp8 | not measured: no |",
        "| F1 lost at int, the embedded model | ≤ 0.1 | +0.050 | yes |",
        "| F1 lost at fp8, the embedded model | ≤ 0.1 | +0.500 | no |",
    ):
        assert line in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which this would measure")
def test_without_a_gpu_every_figure_is_not_measured_and_why(tmp_path):
    done = CliRunner().invoke(cuda_goals.main, ["--output", str(tmp_path / "out")])
    assert done.exit_code == 0 and done.output == (tmp_path / "out.md").read_text("utf-8")
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [entry["goal"] for entry in found["goals"]] == [goal.work for goal in GOALS]
    assert all(entry["met"] is None and not entry["figures"] for entry in found["goals"])
    assert [entry["work"] for entry in found["steps"]] == ["Llama 3.2 1B, batch 1", "GPT-2, batch 1"]
    assert all(not entry["figures"] for entry in found["steps"])
    assert done.output.count("| tokens/s of `generate`, ") == 2
    assert "not measured" in done.output and ("is False" in done.output or "interpreter" in done.output)


def work(batches: int) -> Work:
    model = tiny.build("bert")
    given = [tiny.inputs(model, 2, 9 + number) for number in range(batches)]
    return Work("tiny", model, given, [longer(batch, tiny.PAD) for batch in given], 2 * batches, 3)


def test_engines_in_turns_and_what_fails_is_a_reason(monkeypatch):
    monkeypatch.setattr("benchmarks.measure.PAUSE", 0.0)
    seen = []

    def prepare(name, work):
        if name == "torchao int8":
            raise ImportError("no torchao")
        if name == "opswap fp8":
            raise TargetUnavailable("fp8 wants a newer GPU")
        return lambda batch: seen.append((name, batch["input_ids"].shape[1])) or ()

    for batches, count in ((1, 3), (2, 3)):
        found = times(work(batches), prepare, ["opswap int", "opswap fp8", "torch.compile bf16", "torchao int8"])
        assert found["torchao int8"] == "ImportError: no torchao"
        assert found["opswap fp8"] == "TargetUnavailable: fp8 wants a newer GPU"
        assert len(found["opswap int"]) == len(found["torch.compile bf16"]) == count
    assert {("opswap int", 9), ("opswap int", 10), ("torch.compile bf16", cuda_work.LONGER)} == set(seen)


@pytest.mark.parametrize("when", ["prepared", "called"])
def test_a_fault_of_our_own_ends_the_run(when):
    def call(batch):
        raise ZeroDivisionError("ours")

    def prepare(name, work):
        return call if when == "called" else call(None)

    with pytest.raises(ZeroDivisionError, match="ours"):
        times(work(1), prepare, ["opswap int"])


@pytest.mark.parametrize(
    "given, code, line",
    [
        (["--rows", "0"], 2, "'--rows': 0 is not in the range x>=1"),
        (["--data", "nowhere.json"], 1, "no file at nowhere.json"),
    ],
    ids=["no rows", "no data"],
)
def test_what_is_given_is_checked_before_anything_is_done(given, code, line, tmp_path, monkeypatch):
    def too_early():
        raise AssertionError("the device was looked at first")

    monkeypatch.setattr(cuda_goals.device, "why_not", too_early)
    monkeypatch.setattr(cuda_goals.device, "interpreted", too_early)
    done = CliRunner().invoke(cuda_goals.main, ["--output", str(tmp_path / "out"), *given])
    assert done.exit_code == code and line in done.output and not list(tmp_path.iterdir())


def test_too_few_windows_for_a_batch_are_refused():
    examples = read_examples(str(cuda_goals.DATA), 3)
    with pytest.raises(InputError, match="a batch of 32 windows was wanted; the questions make [34]; lower --rows"):
        cuda_work.true_lengths("few", "bert-base", examples, 32, 1)


def test_longer_batches_are_padding():
    batch = tiny.inputs(tiny.build("bert"), 2, 9)
    more = longer(batch, tiny.PAD)
    assert all(value.shape == (2, 64) for value in more.values()) and not more["attention_mask"][:, 9:].any()
    assert (more["input_ids"][:, 9:] == tiny.PAD).all() and torch.equal(more["input_ids"][:, :9], batch["input_ids"])


@pytest.mark.parametrize("make", [language_model, llama], ids=["gpt2", "llama"])
def test_both_ways_to_generate_make_the_tokens_of_the_likeliest(monkeypatch, make):
    """in float32, so that both choose alike: here on the CPU"""
    monkeypatch.setattr(cuda_steps, "NEW", 5)
    torch.manual_seed(0)
    model = make().eval()
    batch = {"input_ids": torch.randint(3, tiny.VOCABULARY, (2, 7))}
    (mine,) = cuda_steps.ours(model, "fp", "cpu")(batch)
    (theirs,) = cuda_steps.compiled(model, torch.device("cpu"), torch.float32)(batch)
    assert mine.shape == (2, 5) and torch.equal(mine, theirs)
