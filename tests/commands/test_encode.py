"""`encode`: hidden states that are transformers' own, real tokens counted, texts from everywhere."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from models.loading import load
from models.places import resolve
from models.tasks import ENCODE
from tests.checks import assert_sqnr
from tests.cli import Cli

TEXTS = ("Hello there.", "A longer sentence, with more words in it than the other one has.")


def asked(texts: tuple[str, ...] = TEXTS) -> list[str]:
    return [part for text in texts for part in ("--text", text)]


@pytest.mark.parametrize("options, least", [((), 90), (("--precision", "bf16"), 30), (("--precision", "int", "--target",
                         "customcpu"), 20)], ids=["fp", "bf16", "int"])  # fmt: skip
def test_hidden_states_are_transformers(cli: Cli, tmp_path: Path, options: tuple[str, ...], least: float) -> None:
    file = tmp_path / "new" / "states.safetensors"
    result = cli("--json", *options, "encode", *asked(), "--output", str(file))
    states = load_file(file)
    model, tokenizer = load(task=ENCODE)
    reference = AutoModel.from_pretrained(resolve("minilm-squad"), add_pooling_layer=False, dtype=torch.float32).eval()
    assert not any(name.startswith("pooler") for name, _ in model.named_parameters())
    for place, (text, found) in enumerate(zip(TEXTS, result.json["texts"], strict=True)):
        with torch.no_grad():
            expected = reference(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        state = states[f"text{place}"]
        assert_sqnr(state, expected, least)
        assert found["text"] == text and not found["truncated"]
        assert [found["tokens"], found["width"]] == list(expected.shape)
        assert found["first"] == pytest.approx(state[0, :4].tolist())
        assert found["norm"] == pytest.approx(float(state.norm(dim=1).mean()), rel=1e-5)
    assert result.json["output"] == str(file)
    assert {"target", "precision", "scheme", "swapped", "kept"} <= result.json.keys()


def test_perf_counts_real_tokens(cli: Cli) -> None:
    found = cli("--json", "encode", *asked(), "--perf", "--iterations", "3", "--batch-size", "2").json
    perf, tokens = found["perf"], [text["tokens"] for text in found["texts"]]
    assert perf["tokens"] == sum(tokens)
    assert perf["padding"] == round(1 - sum(tokens) / (2 * max(tokens)), 4) > 0
    assert perf["iterations"] == 3 and perf["batch_size"] == 2
    seconds = perf["latency_ms"]["median"] / 1000
    assert perf["tokens_per_second"] == pytest.approx(sum(tokens) / seconds, rel=1e-3)
    assert perf["sentences_per_second"] == pytest.approx(2 / seconds, rel=1e-2)
    assert "perf" not in cli("--json", "encode", *asked()).json
    few = cli("--json", "encode", *asked(), "--perf", "--batch-size", "32").json["perf"]
    assert few["batch_size"] == 2  # the texts that there are


def test_texts_come_in_order_from_options_files_and_standard_input(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("from a file\n\nand another line, which is a good deal longer\n")
    found = cli("--json", "encode", "--text", "given", "--file", str(file)).json
    expected = ["given", "from a file", "and another line, which is a good deal longer"]
    assert [text["text"] for text in found["texts"]] == expected
    found = cli("--json", "encode", stdin="ünï\nzwei\n".encode()).json
    assert [text["text"] for text in found["texts"]] == ["ünï", "zwei"]


def test_cut_texts_are_said(cli: Cli) -> None:
    result = cli("--json", "encode", *asked(), "--max-length", "6")
    assert [text["truncated"] for text in result.json["texts"]] == [False, True]
    assert result.json["texts"][1]["tokens"] == result.json["max_length"] == 6
    assert "(cut after 6)" in cli("encode", *asked(), "--max-length", "6").out


@pytest.mark.parametrize(
    "arguments, stdin, code, said",
    [
        (("--text", " "), b"", 1, "a text is empty"),
        ((), b"", 1, "standard input holds no text"),
        ((), b"\xff", 1, "standard input is not UTF-8"),
        (("--file", "gone.txt"), b"", 1, "no file at gone.txt"),
        (("--text", "a", "--max-length", "2"), b"", 1, "leave no room for text: wanted at least 3"),
        (("--text", "a", "--max-length", "513"), b"", 1, "reads at most 512 tokens, 513 wanted"),
        (("--text", "a", "--graphs"), b"", 2, "--graphs are HPU graphs, which target hpu has, not cpu"),
    ],
)
def test_what_cannot_be(cli: Cli, arguments: tuple[str, ...], stdin: bytes, code: int, said: str) -> None:
    result = cli("encode", *arguments, stdin=stdin)
    assert (result.code, result.out) == (code, "") and said in result.err and "Traceback" not in result.err


def test_graphs_without_a_card_are_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "0")
    result = cli("--target", "hpu", "--precision", "bf16", "encode", "--text", "a", "--graphs")
    assert result.code == 0 and "no HPU graphs are recorded: the package habana_frameworks" in result.err


def test_a_quantized_folder(cli: Cli, tmp_path: Path) -> None:
    """Ours holds the graph that was quantized, for its task alone; what others make in the same layout is for any."""
    folder = tmp_path / "int"
    assert cli("quantize", "--output", str(folder)).code == 0
    ask = ("--model", str(folder), "--target", "customcpu", "--json", "encode", "--text", "Hello there.")
    cli(*ask).fails_in_one_line(1, "is quantized for `ask`, not for `encode`: give the float model")
    for file in folder.glob("opswap.*"):
        file.unlink()
    found = cli(*ask).json
    direct = cli("--json", "--target", "customcpu", "--precision", "int", "encode", "--text", "Hello there.").json
    assert found["swapped"] == direct["swapped"] == 36
    assert found["texts"][0]["first"] == pytest.approx(direct["texts"][0]["first"], abs=1e-3)
