"""A model of another task whose weights have the names of the one that is asked for: its answers would mean nothing."""

from pathlib import Path

import pytest
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from models import InputError, load
from models.tasks import ASK, GENERATE, TAG
from tests.models.samples import tokenizer

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
BERT = BertConfig(vocab_size=len(tokenizer()), **SIZES)
GPT2 = GPT2Config(vocab_size=len(tokenizer()), n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
LLAMA = LlamaConfig(vocab_size=len(tokenizer()), bos_token_id=0, eos_token_id=0, **SIZES)
CASES = {
    "BERT's head is a token's too": (BertForSequenceClassification, BERT, TAG, "a sequence-classification model"),
    "GPT-2's head is its table": (GPT2ForSequenceClassification, GPT2, GENERATE, "a sequence-classification model"),
    "Llama's answers have a body of another name": (LlamaForCausalLM, LLAMA, ASK, "a language model"),
    "the same": (GPT2ForQuestionAnswering, GPT2, GENERATE, "a question-answering model"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_another_task_is_one_line(tmp_path: Path, case: str) -> None:
    kind, config, task, said = CASES[case]
    saved(kind, config, tmp_path)
    with pytest.raises(InputError) as refused:
        load(str(tmp_path), task=task)
    assert str(refused.value) == f"{tmp_path} is {said} ({kind.__name__}): give a model {task.trained}"


@pytest.mark.parametrize("names", [None, [], ["BertModel"], ["Another"]], ids=str)
def test_what_the_config_does_not_say_is_not_refused(tmp_path: Path, names: list[str] | None) -> None:
    saved(BertForSequenceClassification, BERT, tmp_path, names)
    assert load(str(tmp_path), task=TAG)


def test_a_new_head_is_for_any_model(tmp_path: Path) -> None:
    saved(BertForSequenceClassification, BERT, tmp_path)
    assert load(str(tmp_path), new_head=True)


def saved(kind: type, config: BertConfig, folder: Path, *names: list[str] | None) -> None:
    """names: what the config is to say instead of the model's class"""
    kind(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    for one in names:
        config = BertConfig.from_pretrained(folder)
        config.architectures = one
        config.save_pretrained(folder)
