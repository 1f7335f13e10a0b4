"""Models by task, texts as rows, labels and entities from logits."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, GPT2Config

from models import InputError, load
from models.classification import labels_of
from models.tagging import Entity, Word, entities_of, words_of
from models.tasks import ASK, ENCODE, GENERATE, TAG, TASKS, task_of
from models.texts import longest_row, text_windows
from tests.commands.folders import tiny_folder
from tests.models.samples import KINDS, tokenizer


@pytest.mark.parametrize("task", TASKS)
def test_every_task_loads_its_own_and_refuses_the_others(tmp_path: Path, task: str) -> None:
    folder = str(tiny_folder(tmp_path, task))
    model, words = load(folder, task=TASKS[task])
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert type(model).__name__.endswith(
        {"ask": "QuestionAnswering", "encode": "Model", "classify": "SequenceClassification",
         "tag": "TokenClassification", "generate": "LMHeadModel"}[task]
    )  # fmt: skip
    assert words.pad_token_id is not None
    if task not in ("encode", "generate"):
        with pytest.raises(InputError, match="is a .* model|can't be loaded"):
            load(folder, task=TASKS["generate" if task == "ask" else "ask"])


def test_an_encoder_of_any_checkpoint_has_no_random_pooler(tmp_path: Path) -> None:
    model, _ = load(str(tiny_folder(tmp_path / "ask", "ask")), task=TASKS["encode"])
    assert model.pooler is None
    model, _ = load(str(tiny_folder(tmp_path / "encode", "encode")), task=TASKS["encode"])
    assert model.pooler is not None  # its own


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_texts_in_their_order(kind: str) -> None:
    words = tokenizer(kind)
    texts = ["short", "a text that has some more words than the others have", "two words"]
    windows, cut = text_windows(words, texts, 8)
    assert cut == [False, True, False]
    for place, (window, text) in enumerate(zip(windows, texts, strict=True)):
        whole = words(text)["input_ids"]
        assert window.example == place and len(window) == min(8, len(whole)) == len(window.offsets)
        if not cut[place]:
            assert window.input_ids == whole
        covered = [text[span[0] : span[1]].strip() for span in window.offsets if span is not None]
        assert text.replace(" ", "").startswith("".join(covered).replace(" ", ""))


def test_pairs_are_rows_of_both() -> None:
    words = tokenizer()
    windows, cut = text_windows(words, ["one", "two"], 20, ["first", "second"])
    assert [window.input_ids for window in windows] == words(["one", "two"], ["first", "second"])["input_ids"]
    assert windows[0].token_type_ids == [0, 0, 0, 1, 1] and cut == [False, False]


def test_positions_bound_a_row() -> None:
    words = tokenizer()
    config = SimpleNamespace(max_position_embeddings=64, pad_token_id=1, model_type="bert")
    assert longest_row(words, config, None) == 64 and longest_row(words, config, 10) == 10
    roberta = SimpleNamespace(max_position_embeddings=66, pad_token_id=1, model_type="roberta")
    assert longest_row(words, roberta, None) == 64
    with pytest.raises(InputError, match="at most 64 tokens, 65 wanted"):
        longest_row(words, roberta, 65)


@pytest.mark.parametrize(
    "problem, logits, kind, scores",
    [
        (None, [0.0, 1.0986123], "one", {"b": 0.75, "a": 0.25}),
        ("multi_label_classification", [0.0, 1.0986123], "any", {"b": 0.75, "a": 0.5}),
        ("regression", [2.5, 1.0], "value", {"a": 2.5, "b": 1.0}),
        (None, [3.5], "value", {"a": 3.5}),
        ("multi_label_classification", [1.0986123], "any", {"a": 0.75}),
    ],
)
def test_labels(problem: str | None, logits: list[float], kind: str, scores: dict[str, float]) -> None:
    config = SimpleNamespace(problem_type=problem, id2label={0: "a", 1: "b"})
    found = labels_of(torch.tensor(logits), config, 5)
    assert found["kind"] == kind
    assert {one["label"]: one["score"] for one in found["candidates"]} == pytest.approx(scores)
    assert [one["label"] for one in found["candidates"]] == list(scores)
    assert (found["label"], found["score"]) == (found["candidates"][0]["label"], found["candidates"][0]["score"])


def test_pieces_of_a_word_are_one_word_with_its_first_label() -> None:
    text = "Lindqvist, of Hallö"
    windows, _ = text_windows(tokenizer(), [text], 20)
    pieces = len(windows[0])
    logits = torch.zeros(pieces, 2)
    logits[1, 1], logits[2:, 0] = 9.0, 9.0  # the first token of the first word alone is a name
    found = words_of(text, windows[0], logits, {0: "O", 1: "NAME"})
    assert [(word.start, word.end) for word in found] == [(0, 9), (9, 10), (11, 13), (14, 19)]
    assert [word.label for word in found] == ["NAME", "O", "O", "O"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text, words",
    [
        ("पानी है", ["पानी", "है"]),
        ("re\u0301sume\u0301, Mara", ["re\u0301sume\u0301", ",", "Mara"]),
        ("\N{FIRE}\N{FIRE} of Hallö", None),
        ("沐沐", ["沐沐"]),
    ],
    ids=["marks of Hindi", "accents apart", "pictures of several tokens", "letters of several tokens"],
)
def test_words_are_whole_and_do_not_overlap(kind: str, text: str, words: list[str] | None) -> None:
    windows, _ = text_windows(tokenizer(kind), [text], 60)
    found = words_of(text, windows[0], torch.zeros(len(windows[0]), 1), {0: "O"})
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert "".join(text[one.start : one.end] for one in found) == "".join(text.split())
    if words:
        assert [text[one.start : one.end] for one in found] == words


@pytest.mark.parametrize(
    "labels, expected",
    [
        (("B-PER", "I-PER", "O"), [("ab cd", "PER")]),
        (("B-PER", "B-PER", "O"), [("ab", "PER"), ("cd", "PER")]),
        (("I-PER", "I-PER", "I-LOC"), [("ab cd", "PER"), ("ef", "LOC")]),
        (("PER", "PER", "PER"), [("ab cd ef", "PER")]),
        (("O", "O", "O"), []),
        (("B-PER", "O", "I-PER"), [("ab", "PER"), ("ef", "PER")]),
    ],
)
def test_entities(labels: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    text = "ab cd ef"
    words = [Word(start, start + 2, label, 0.5 + start / 10) for start, label in zip((0, 3, 6), labels, strict=True)]
    found = entities_of(text, words)
    assert [(one.text, one.label) for one in found] == expected
    if expected == [("ab cd", "PER")]:
        assert found == [Entity("ab cd", "PER", pytest.approx(0.65), 0, 5)]


def test_what_a_class_is_for_goes_by_its_name_and_architecture() -> None:
    names = {"BertForQuestionAnswering": ASK, "BertModel": ENCODE, "BertForTokenClassification": TAG, "Mine": None}
    assert {name: task_of(BertConfig(), name) for name in names} == names
    assert task_of(GPT2Config(), "BertModel") is None and task_of(GPT2Config(), "GPT2LMHeadModel") is GENERATE
