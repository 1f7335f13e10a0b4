"""CTranslate2: INT8 of a BERT encoder, without the question-answering head, which it has no place for."""

import copy
import os
from typing import Any

import numpy as np
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertPooler

from benchmarks.peers.base import Batch, Engine, Run, Work


def convert(work: Work) -> str:
    """→ the folder of the encoder in CTranslate2's form. Raises RuntimeError for what is no BERT."""
    from ctranslate2.converters.transformers import BertLoader

    if type(work.model.config) is not BertConfig:
        raise RuntimeError(f"its converter is used for BERT alone; this is {type(work.model).__name__}")
    encoder: Any = copy.deepcopy(work.model.base_model)
    encoder.config.position_embedding_type = "absolute"  # the converter asks for what transformers no longer says
    encoder.pooler = BertPooler(encoder.config)  # it insists on one; a pooler reads one token, its time is nothing
    loader = BertLoader()
    spec = loader.get_model_spec(encoder)
    spec.config.layer_norm_epsilon = encoder.config.layer_norm_eps
    spec.config.unk_token = "0"
    spec.register_vocabulary([str(token) for token in range(encoder.config.vocab_size)])
    spec.validate()
    spec.optimize(quantization="int8")
    folder = work.folder / "model"
    folder.mkdir()
    spec.save(str(folder))
    return str(folder)


def int8(work: Work) -> Run:
    if "AVX512" in torch.backends.cpu.get_cpu_capability():
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")  # on AMD it chooses AVX2 by itself, which is slower
    import ctranslate2

    encoder = ctranslate2.Encoder(
        convert(work), device="cpu", compute_type="int8", inter_threads=1, intra_threads=work.threads
    )

    def run(batch: Batch) -> tuple[Any, ...]:
        ids = ctranslate2.StorageView.from_array(batch["input_ids"].numpy().astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(batch["attention_mask"].numpy().sum(1, dtype=np.int32))
        types = batch["token_type_ids"].tolist() if "token_type_ids" in batch else None
        output = encoder.forward_batch(ids, lengths, token_type_ids=types)
        return (np.array(output.last_hidden_state),)

    return run


ENGINES = (Engine("CTranslate2 int8", "int8", ("ctranslate2",), int8, encoder_only=True, note="encoder only"),)
