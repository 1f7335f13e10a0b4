"""Random batches, and real windows padded or in like lengths."""

import pytest
import torch

from benchmarks.inputs import SHAPES, like_lengths, padded, random_batch, random_model
from models.errors import InputError
from models.question_answering.features import Window
from tests.tiny import PAD, VOCABULARY, build

LENGTHS = [5, 9, 3, 8, 6]
WINDOWS = [Window(0, [50 + length] * length, [0] * length, [None] * length) for length in LENGTHS]


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_a_random_batch_is_the_same_every_time_and_fits_the_model(name: str) -> None:
    model = build(name)
    batch = random_batch(model, 3, 7)
    again = random_batch(model, 3, 7)
    assert list(batch) == ["input_ids", "attention_mask"] + ["token_type_ids"] * (name == "bert")
    assert all(tensor.shape == (3, 7) and torch.equal(tensor, again[key]) for key, tensor in batch.items())
    assert batch["attention_mask"].all() and int(batch["input_ids"].max()) < VOCABULARY
    model(**batch)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_more_tokens_than_positions_are_refused(name: str) -> None:
    model = build(name)
    longest = model.config.max_position_embeddings - (model.config.pad_token_id + 1 if name == "roberta" else 0)
    model(**random_batch(model, 1, longest))
    with pytest.raises(InputError, match=f"at most {longest} tokens, {longest + 1} wanted: lower --sequence-length"):
        random_batch(model, 1, longest + 1)


def test_padded_batches_have_one_shape_and_leave_out_what_fills_no_batch() -> None:
    found = padded(build("bert"), WINDOWS, PAD, rows=2, length=12)
    assert [batch["input_ids"].shape for batch in found.batches] == [(2, 12), (2, 12)]
    assert found.tokens == (5, 9, 3, 8) and found.one_shape and found.how == "padded to 12"
    assert [int(batch["attention_mask"].sum()) for batch in found.batches] == [14, 11]


def test_like_lengths_hold_the_same_windows_with_little_padding() -> None:
    found = like_lengths(build("bert"), WINDOWS, PAD, rows=2, length=12)
    assert [batch["input_ids"].shape for batch in found.batches] == [(2, 9), (2, 5)]
    assert sorted(found.tokens) == [3, 5, 8, 9] and not found.one_shape
    assert [int(batch["attention_mask"].sum()) for batch in found.batches] == [17, 8]


def test_shapes_have_the_papers_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES["bert-large"], "num_hidden_layers", 1)
    monkeypatch.setitem(SHAPES["bert-large"], "vocab_size", 50)
    config = random_model("bert-large").config
    sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
    assert sizes == (1024, 16, 4096)
    others = {"deberta-v3-base", "gpt2", "mpnet-base", "modernbert-base"}
    assert set(SHAPES) == {"bert-base", "bert-large", *others}
