"""What fills a batch: heads that read a text's last token (GPT-2's, Llama's) find it by what does not pad."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models import InputError, load
from models.tasks import CLASSIFY
from models.texts import text_windows, through
from tests.models.last_token import PAD, START, UNKNOWN, folder_of, gpt2, llama

TEXTS = ("Mara Lindqvist repaired the lamp of Hallö!", "The captain learned of it only in spring and wrote!", "Yes!")


@pytest.mark.parametrize("made", [gpt2, llama])
@pytest.mark.parametrize(
    "own, knows, pads",
    [
        (PAD, {"pad_token": None}, PAD),
        (UNKNOWN, {"pad_token": "<pad>"}, UNKNOWN),
        (None, {"pad_token": "<pad>"}, PAD),
        (None, {"pad_token": None, "unk_token": "<unk>"}, UNKNOWN),
        (None, {"pad_token": None, "eos_token": "<s>"}, START),
        (None, {"pad_token": None, "eos_token": "</s>", "unk_token": "<unk>"}, UNKNOWN),
    ],
    ids=["config alone", "config differs", "tokenizer alone", "unknown", "end", "end that every text has"],
)
def test_each_text_of_a_batch_has_its_own_classes(
    tmp_path: Path, made: Any, own: int | None, knows: dict[str, str | None], pads: int
) -> None:
    folder = folder_of(made, tmp_path, own, knows)
    model, words = load(str(folder), task=CLASSIFY)
    assert (words.pad_token_id, model.config.pad_token_id) == (pads, pads)
    windows, _ = text_windows(words, TEXTS, 64)
    for places, _, output in through(model, words.pad_token_id, windows, len(TEXTS)):
        for row, place in enumerate(places):
            with torch.no_grad():
                states = model.base_model(torch.tensor([windows[place].input_ids])).last_hidden_state
                torch.testing.assert_close(output.logits[row], model.score(states[0, -1]))


def test_a_classifier_that_nothing_can_pad_is_one_line(tmp_path: Path) -> None:
    folder = folder_of(llama, tmp_path, None, {"pad_token": None, "unk_token": None, "eos_token": "</s>"})
    with pytest.raises(InputError, match="has no token to pad with.*: name a pad_token in its tokenizer_config.json"):
        load(str(folder), task=CLASSIFY)
