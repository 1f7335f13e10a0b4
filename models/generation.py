"""Text token by token from a language model, with the keys and values of earlier tokens where it keeps them (cache.py).

Without a cache every step computes the whole text again: rows of several lengths are padded on the right, where a
causal model's tokens do not see the padding.
How tokens are chosen and when a text ends are transformers' own processors and criteria, as generate() runs them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models.cache import Cached
from models.numbers import require_numbers


@dataclass(frozen=True)
class How:
    """new_tokens: the most for each text; sample: draw the next token, else take the likeliest; temperature, top_k
    (0: all) and top_p shape what is drawn from; repetition: above 1, tokens that are there already lose."""

    new_tokens: int
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Generated:
    """tokens: the new ones, without the end token; ended: by the end token, else because there were enough."""

    tokens: list[int]
    ended: bool


@torch.inference_mode()
def generate(
    model: Callable[..., Any],
    prompts: Sequence[Sequence[int]],
    how: How,
    end: Sequence[int],
    pad: int,
    on_step: Callable[[int], None] = lambda step: None,
    past: Sequence[str] = (),
) -> list[Generated]:
    """prompts: token ids; end: the ids that end a text → one Generated each, in order. Each prompt draws from a
    generator of its own, so that its text does not depend on what else is asked. on_step is told the steps done.
    past: what the model calls the tensors of its cache, if it has one.

    Raises InputError when the model gives NaN.
    """
    rows = [list(prompt) for prompt in prompts]
    draws = [torch.Generator().manual_seed(how.seed) for _ in rows]
    chain, ended = processors(how), [False] * len(rows)
    ask = Cached(model, past, pad) if past else partial(_compute_all, model, pad)
    for step in range(how.new_tokens):
        going = [place for place, done in enumerate(ended) if not done]
        if not going:
            break
        found = ask({place: rows[place] for place in going}).float()
        require_numbers(found)
        for place, logits in zip(going, found, strict=True):
            scores = chain(torch.tensor([rows[place]]), logits[None])  # type: ignore[arg-type]
            token = _choose(scores[0], draws[place] if how.sample else None)
            ended[place] = token in end
            rows[place].append(token)
        on_step(step + 1)
    made = [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]
    return [Generated(row[:-1] if done else row, done) for row, done in zip(made, ended, strict=True)]


def processors(how: How) -> LogitsProcessorList:
    """→ transformers' own, in the order in which generate() has them"""
    chain = LogitsProcessorList()
    if how.repetition != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(how.repetition))
    if how.sample:
        if how.temperature != 1:
            chain.append(TemperatureLogitsWarper(how.temperature))
        if how.top_k:
            chain.append(TopKLogitsWarper(how.top_k))
        if how.top_p < 1:
            chain.append(TopPLogitsWarper(how.top_p))
    return chain


def _compute_all(model: Callable[..., Any], pad: int, texts: Mapping[int, list[int]]) -> Tensor:
    """texts: tokens by place → logits [rows, vocabulary] of the token after each, without a cache"""
    longest = max(map(len, texts.values()))
    ids = torch.full((len(texts), longest), pad)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts.values()):
        ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
    logits = model(input_ids=ids, attention_mask=mask).logits
    return logits[torch.arange(len(texts)), mask.sum(1) - 1]


def _choose(scores: Tensor, draw: torch.Generator | None) -> int:
    """scores [vocabulary] → the likeliest token, or one drawn"""
    if draw is None:
        return int(scores.argmax())
    return int(torch.multinomial(scores.softmax(-1), 1, generator=draw))
