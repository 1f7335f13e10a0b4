"""What is measured: a model by name or by shape with random weights, and batches of random or of real tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from benchmarks.peers.base import Batch
from models.errors import InputError
from models.question_answering.features import Window, collate
from models.question_answering.predict import like_length_batches
from models.tasks import ASK, Task
from toolkit.inputs import inputs_of

# As in the papers: BERT (Devlin et al. 2019), section 3; GPT-2 (Radford et al. 2019), table 2, its smallest; base sizes
# of MPNet (Song et al. 2020) and ModernBERT (Warner et al. 2024) as transformers has them, and of DeBERTa-v3 (He et al.
# 2021) as it was published. Speed does not depend on what the weights are.
SHAPES: dict[str, dict[str, Any]] = {
    "bert-base": {},
    "bert-large": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    },
    "deberta-v3-base": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 256,
        "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
    },
    "gpt2": {},
    "mpnet-base": {},
    "modernbert-base": {},
}  # fmt: skip
# BERT, where there is none
ARCHITECTURES: dict[str, type[PretrainedConfig]] = {
    "deberta-v3-base": DebertaV2Config,
    "gpt2": GPT2Config,
    "mpnet-base": MPNetConfig,
    "modernbert-base": ModernBertConfig,
}
MOST_ROWS = 2**31  # PyTorch counts no further than 2⁶³, bytes too


@dataclass(frozen=True)
class Batches:
    """The batches of one pass, all of one number of rows. how: in words; tokens: lengths without padding."""

    how: str
    batches: tuple[Batch, ...]
    tokens: tuple[int, ...]
    one_shape: bool


def random_model(shape: str, task: Task = ASK) -> PreTrainedModel:
    """A key of SHAPES → a model of that size for `task`, float32, evaluation mode, random weights. Raises InputError
    where its architecture has none."""
    config = ARCHITECTURES.get(shape, BertConfig)(**SHAPES[shape])
    if config.pad_token_id is None:
        config.pad_token_id = 0  # whose classes are read of the last token before the padding
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = task.class_of(config)(config)
    return model.eval()


def random_batch(model: Any, rows: int, length: int) -> Batch:
    """Random tokens without padding, int64 [rows, length]; the same ones every time.

    Token types are there where the model has them. Raises InputError for more tokens than the model has positions for.
    """
    takes = inputs_of(model)
    if takes.longest is not None and length > takes.longest:
        raise InputError(f"the model reads at most {takes.longest} tokens, {length} wanted: lower --sequence-length")
    if rows >= MOST_ROWS:
        raise InputError(f"a batch of {rows} rows is more than {MOST_ROWS}: lower --batch-size")
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size
    ids = torch.randint(min(1000, vocabulary // 2), vocabulary, (rows, length), generator=generator)
    values: dict[str, Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    values["token_type_ids"] = torch.zeros_like(ids)
    return {name: values[name] for name in takes.names}


def padded(model: Any, windows: Sequence[Window], pad_token_id: int, rows: int, length: int) -> Batches:
    """Windows in their own order, padded to `length`; those beyond the last whole batch are left out."""
    groups = [list(range(first, first + rows)) for first in range(0, len(windows) - rows + 1, rows)]
    return _batches(f"padded to {length}", model, windows, groups, pad_token_id, length)


def like_lengths(model: Any, windows: Sequence[Window], pad_token_id: int, rows: int, length: int) -> Batches:
    """The same windows sorted by length, each batch padded to its longest, as `eval` does it."""
    whole = len(windows) // rows * rows
    groups = like_length_batches([len(window) for window in windows[:whole]], rows)
    return _batches("of like length", model, windows, groups, pad_token_id, None)


def _batches(
    how: str, model: Any, windows: Sequence[Window], groups: list[list[int]], pad: int, length: int | None
) -> Batches:
    names = inputs_of(model).names
    found = []
    for group in groups:
        batch = collate([windows[index] for index in group], pad, length)
        found.append({name: batch[name] for name in names if name in batch})
    tokens = tuple(len(windows[index]) for group in groups for index in group)
    return Batches(how, tuple(found), tokens, one_shape=length is not None)
