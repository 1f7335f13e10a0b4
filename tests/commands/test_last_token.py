"""`classify` with the heads of GPT-2 and Llama, which read a text's last token."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.models.last_token import folder_of, gpt2, llama

TEXTS = ("Mara Lindqvist repaired the lamp of Hallö!", "The captain learned of it only in spring and wrote!", "Yes!")


@pytest.mark.parametrize("made, linears", [(gpt2, 4), (llama, 7)], ids=["gpt2", "llama"])
def test_texts_of_any_length_have_their_own_classes_in_8_bits_too(
    cli: Cli, tmp_path: Path, made: object, linears: int
) -> None:
    """Without a token to pad with in the config; the head stays in float, as every head of classes"""
    folder, saved = (
        str(folder_of(made, tmp_path / "model", None, {"pad_token": None, "unk_token": "<unk>"})),
        str(tmp_path / "saved"),
    )
    told = cli("--json", "--model", folder, "quantize", "--task", "classify", "--output", saved)
    assert told.code == 0 and told.json["layers"] == linears, told.err
    assert [one["name"] for one in told.json["kept"]] == ["score"]
    for model, *how in ((folder,), (folder, "--precision", "int"), (saved,)):
        options = ("--json", "--model", model, "--target", "customcpu", *how, "classify")
        whole = cli(*options, *(part for text in TEXTS for part in ("--text", text)))
        assert whole.code == 0, whole.err
        for text, one in zip(TEXTS, whole.json["texts"], strict=True):
            alone = cli(*options, "--text", text).json["texts"][0]
            assert one["label"] == alone["label"] and one["score"] == pytest.approx(alone["score"], rel=1e-4)
