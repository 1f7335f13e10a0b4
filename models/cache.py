"""The next token of several texts, call after call, of a model that takes and returns a cache of keys and values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Cached:
    """The first call computes whole texts, padded on the left: the distances within each text stay what they are, and
    its positions are counted by the mask. Every other call computes one token of each, and keeps what it computed.

    model: called with input_ids int64 [rows, new], attention_mask int64 [rows, past + new] and the tensors `names` of
    [rows, ..., past, size], which it returns as past_key_values, in that order, with the new tokens; the first call
    goes without them.
    """

    def __init__(self, model: Callable[..., Any], names: Sequence[str], pad: int) -> None:
        self.model, self.names, self.pad = model, names, pad
        self.places: list[int] = []
        self.mask = torch.empty(0, 0, dtype=torch.int64)
        self.past: dict[str, Tensor] = {}

    def __call__(self, texts: Mapping[int, list[int]]) -> Tensor:
        """texts: tokens by place, in the same order every time, each one longer than the last time; those that are not
        among them any more are forgotten → logits [rows, vocabulary] of the token after each"""
        ids = self._next(texts) if self.places else self._first(texts)
        made = self.model(input_ids=ids, attention_mask=self.mask, **self.past)
        self.past = dict(zip(self.names, made.past_key_values, strict=True))
        return made.logits[:, -1]

    def _first(self, texts: Mapping[int, list[int]]) -> Tensor:
        longest = max(map(len, texts.values()))
        ids = torch.full((len(texts), longest), self.pad)
        self.mask = torch.zeros_like(ids)
        for row, text in enumerate(texts.values()):
            ids[row, longest - len(text) :], self.mask[row, longest - len(text) :] = torch.tensor(text), 1
        self.places = list(texts)
        return ids

    def _next(self, texts: Mapping[int, list[int]]) -> Tensor:
        if list(texts) != self.places:
            kept = torch.tensor([self.places.index(place) for place in texts])
            self.past = {name: value.index_select(0, kept.to(value.device)) for name, value in self.past.items()}
            self.mask, self.places = self.mask[kept], list(texts)
        ids = torch.tensor([text[-1:] for text in texts.values()])
        self.mask = torch.cat([self.mask, torch.ones_like(ids)], 1)
        return ids
