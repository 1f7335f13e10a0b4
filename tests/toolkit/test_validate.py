"""Comparing what two sides gave: exactness, limits, other inputs, files that travel."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models.memory import give_back_memory
from toolkit import UsageError
from toolkit.validate import LIMITS, Limits, Measured, Recorder, added_memory, compare, digest, page, read, save
from toolkit.validate.compare import limits_for
from toolkit.validate.memory import bytes_of

ABOUT = {
    "task": "ask", "model": "m", "data": "d", "rows": 2, "tokens": 5, "max_length": 384, "precision": "fp",
    "scheme": "dynamic", "swapped": 0, "kept": [], "latency_ms": {"median": 1.5}, "memory": {"weights_mb": 2},
    "target": {"requested": "cpu", "executed": "cpu", "native": True, "device": "d", "isa": "i", "reason": None},
}  # fmt: skip


def measured(name: str = "cpu:fp", values: tuple[float, ...] = (3.0, -4.0), **other: object) -> Measured:
    outputs = {"logits": torch.tensor(values)}
    return replace(Measured(name, "fp", "same", outputs, {"a": "x", "b": "y"}, dict(ABOUT)), **other)  # type: ignore[arg-type]


def test_equal_outputs_have_no_noise() -> None:
    pair = compare(measured(), measured("t"), LIMITS["fp"])
    assert (pair.sqnr_db, pair.cosine, pair.max_abs, pair.answers_equal) == (None, 1.0, 0.0, 1.0)
    assert pair.passed and pair.as_json()["passed"] and not pair.changed


def test_what_differs_is_measured() -> None:
    other = measured("t", (3.0, -3.5), answers={"a": "x", "b": "z"})
    pair = compare(measured(), other, Limits(20.0, 0.9, 0.5))
    assert pair.sqnr_db == pytest.approx(20.0)  # |0, 0.5| to |3, 4|
    assert pair.cosine == pytest.approx(23 / (5 * math.hypot(3, 3.5)))
    assert pair.max_abs == 0.5
    assert (pair.answers_equal, pair.answers) == (0.5, 2)
    assert pair.changed == ({"id": "b", "reference": "y", "target": "z"},)
    assert pair.passed


@pytest.mark.parametrize(
    "limits, missed",
    [
        (Limits(20.1, 0.9, 0.5), "sqnr_db 20, at least 20.1 wanted"),
        (Limits(20.0 - 1e-9, 0.9999, 0.5), "cosine 0.99"),
        (Limits(19.0, 0.9, 0.51), "answers_equal 0.5, at least 0.51 wanted"),
    ],
)
def test_each_limit_can_be_missed(limits: Limits, missed: str) -> None:
    pair = compare(measured(), measured("t", (3.0, -3.5), answers={"a": "x", "b": "z"}), limits)
    assert not pair.passed and len(pair.failed) == 1 and pair.failed[0].startswith(missed)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_numbers_that_are_none_fail(wrong: float) -> None:
    pair = compare(measured(), measured("t", (3.0, wrong)), Limits(-1000, -1, 0))
    assert not pair.passed
    assert None in (pair.sqnr_db, pair.max_abs)  # JSON has neither


def test_a_task_without_answers() -> None:
    pair = compare(measured(answers={}), measured("t", answers={}), LIMITS["fp"])
    assert pair.answers_equal is None and pair.answers == 0 and pair.passed


def test_limits_are_those_of_the_looser_precision_and_of_what_is_chosen() -> None:
    assert limits_for(("fp", "int")) == LIMITS["int"] == limits_for(("int", "bf16"))
    chosen = limits_for(("fp", "fp"), sqnr_db=1.0, cosine=None, answers_equal=None)
    assert chosen == replace(LIMITS["fp"], sqnr_db=1.0)


def test_other_inputs_are_refused_with_what_differs() -> None:
    other = measured("t", digest="other", about={**ABOUT, "rows": 3, "tokens": 9})
    with pytest.raises(
        UsageError, match="inputs of cpu:fp are not those of t: rows 2 there, 3 here; tokens 5 there, 9 here"
    ):
        compare(measured(), other, LIMITS["fp"])
    with pytest.raises(UsageError, match="the tokens differ: another tokenizer"):
        compare(measured(), measured("t", digest="other"), LIMITS["fp"])


def test_other_outputs_are_refused() -> None:
    with pytest.raises(UsageError, match="t gives hidden; cpu:fp gives logits: none in common"):
        compare(measured(), measured("t", outputs={"hidden": torch.ones(2)}), LIMITS["fp"])
    with pytest.raises(UsageError, match=r"logits of t is \[3\] where cpu:fp gives \[2\]"):
        compare(measured(), measured("t", (1.0, 2.0, 3.0)), LIMITS["fp"])


def test_a_file_is_what_was_measured(tmp_path) -> None:
    path = tmp_path / "new" / "gpu.safetensors"
    was = measured(answers={"ä": "Łazienki"})
    save(was, path)
    found = read(path)
    assert found.name == "cpu:fp (gpu.safetensors)"
    assert (found.digest, found.answers, found.about, found.precision) == (was.digest, was.answers, was.about, "fp")
    assert torch.equal(found.outputs["logits"], was.outputs["logits"])
    assert [entry.name for entry in path.parent.iterdir()] == ["gpu.safetensors"]


@pytest.mark.parametrize("kind, said", [
    ("missing", "no file at"), ("text", "is not safetensors"), ("other", "holds no measured outputs"),
    ("damaged", "is damaged"), ("folder", "is a folder"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, kind: str, said: str) -> None:
    path = tmp_path / "file.safetensors"
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        marks = {"format": "opswap-validate", "version": "1"} if kind == "damaged" else {}
        save_file({"logits": torch.ones(1)}, path, marks)
    with pytest.raises(UsageError, match=f"{said}.*give a file that validate --save wrote"):
        read(path)


@pytest.mark.parametrize("key, value, said", [
    ("precision", "int4", "precision 'int4', wanted one of fp,"), ("about", "{}", "about.model is None"),
    ("about", "[]", r"about is \[\]"), ("answers", "[]", r"answers is \[\]"), ("answers", '{"a": 1}', "answers.a is 1"),
    ("about", "[" * 100_000, "nested too deeply"), ("about", "9" * 5000, "Exceeds the limit"),
    ("about", json.dumps({**ABOUT, "target": {"executed": "cpu"}}), "about.target.native is None"),
])  # fmt: skip
def test_a_file_that_was_changed_is_refused(tmp_path, key: str, value: str, said: str) -> None:
    path = tmp_path / "file.safetensors"
    save(measured(), path)
    with safe_open(path, framework="pt") as file:
        marks = file.metadata()
    save_file({"logits": torch.ones(1)}, path, {**marks, key: value})
    with pytest.raises(UsageError, match=f"is damaged .{said}.*give a file that validate --save wrote"):
        read(path)
    save_file({"logits": torch.ones(1, dtype=torch.int8)}, path, marks)
    with pytest.raises(UsageError, match="logits holds no floats"):
        read(path)


def test_digest_knows_every_token_type_and_the_task() -> None:
    rows = [([1, 2], [0, 0]), ([3], None)]
    others = [
        [([1, 2], [0, 1]), ([3], None)],
        [([1], [0, 0]), ([2, 3], None)],
        [([1, 2], None), ([3], None)],
        rows[::-1],
    ]
    assert digest("ask", rows) == digest("ask", [((1, 2), (0, 0)), ((3,), None)])
    assert len({digest("ask", rows), digest("tag", rows), *(digest("ask", other) for other in others)}) == 6


def test_recorder_keeps_real_tokens_whatever_the_batches() -> None:
    def run(input_ids, attention_mask):
        return {"logits": input_ids.float() * 2, "pooled": input_ids.float()[:, 0], "count": input_ids}

    whole, single = Recorder(run), Recorder(run)
    ids, mask = torch.tensor([[5, 6], [7, 0]]), torch.tensor([[1, 1], [1, 0]])
    whole(input_ids=ids, attention_mask=mask)
    single(input_ids=ids[:1], attention_mask=mask[:1])
    single(input_ids=ids[1:, :1], attention_mask=mask[1:, :1])
    for recorder in (whole, single):
        assert {name: value.tolist() for name, value in recorder.outputs().items()} == {
            "logits": [10, 12, 14], "pooled": [5, 7],
        }  # fmt: skip
    assert (len(whole.times), len(single.times)) == (1, 2) and min(single.times) > 0


def test_bytes_count_a_shared_weight_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("more", torch.zeros(2, dtype=torch.int8))
    assert bytes_of(model) == 66


def test_memory_is_what_a_block_adds_freed_again_or_not_and_nothing_of_before() -> None:
    with added_memory() as freed:
        torch.ones(64 << 20).sum()  # 268 MB
    give_back_memory()
    with added_memory() as kept:
        there = torch.ones(64 << 20)
    with added_memory() as none:
        there[:9].sum()
    found = [one["run_adds_mb"] for one in (freed, kept, none)]
    if found[0] is None:
        assert found == [None] * 3
    else:
        assert min(found[:2]) > 200 and 0 <= found[2] < 50


def test_page_needs_nothing_else_and_escapes() -> None:
    made = page("A <b>", ["one & two"], [("Pairs", ("name", ""), [["<x>", "PASS"], ["y", "FAIL"]])])
    assert "A &lt;b&gt;" in made and "one &amp; two" in made and "&lt;x&gt;" in made
    assert "<td class=pass>PASS</td>" in made and "<td class=fail>FAIL</td>" in made
    assert "http" not in made and "src=" not in made
