"""The token that fills a batch, one for the tokenizer and the model: most models mask it, but heads that read a text's
last token find it as the last that does not pad."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.errors import InputError

READS_LAST = "score"  # as transformers calls the head of classes of GPT-2, Llama and all that came after


def pad_as_model(tokenizer: PreTrainedTokenizerFast, config: Any) -> None:
    """Gives the tokenizer the config's token to pad with; its own stays where the config has none, and it gets token 0
    where it has none either, as GPT-2's: it is masked."""
    own = getattr(config, "pad_token_id", None)
    if isinstance(own, int) and 0 <= own < len(tokenizer):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(own)
    elif tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)


def pad_as_tokenizer(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Gives a model with classes from the last token a token to pad with, where its config has none: the tokenizer's,
    or its end of a text, or its unknown token, whichever is not what it ends every text with.

    Raises InputError where there is none of them.
    """
    if not hasattr(model, READS_LAST) or getattr(model.config, "pad_token_id", None) is not None:
        return
    last = tokenizer("")["input_ids"][-1:]
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id):
        if token is not None and token not in last:
            model.config.pad_token_id = token
            return
    raise InputError(
        f"{name} has no token to pad with, by which its classes find the end of a text: name a pad_token in its "
        "tokenizer_config.json"
    )
