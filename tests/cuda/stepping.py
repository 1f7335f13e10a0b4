"""Language models token by token: what was captured of them, and the same without."""

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from targets.cuda import steps
from targets.cuda.buckets import Captured, Capturing, Run
from tests import tiny
from tests.cuda.conftest import INTERPRETED
from tests.toolkit.test_cache import SMALL, language_model
from toolkit import Recipe, transform
from toolkit.cache import past_of, with_cache


class Graphs:
    """What was captured: the tokens that each reaches, and whether it is still there."""

    def __init__(self) -> None:
        self.reaches: list[int] = []
        self.held: list[weakref.ref[Captured]] = []
        self.capture = Capturing() if not INTERPRETED else None

    def __call__(self, run: Run, inputs: list[Tensor], reach: int) -> Captured:
        from tests.cuda.recording import recorded

        made = (self.capture or recorded)(run, inputs, reach)
        self.reaches.append(reach)
        self.held.append(weakref.ref(made))
        return made

    @property
    def alive(self) -> list[int]:
        gc.collect()
        return [reach for reach, held in zip(self.reaches, self.held, strict=True) if held() is not None]


@cache
def turning() -> nn.Module:
    """A model whose queries and keys are turned by their position, of which two heads of four share a key"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**{**SMALL, "initializer_range": 0.1}, num_key_value_heads=2)).eval()


@cache
def in_window() -> nn.Module:
    """The same, each of whose tokens looks at six, itself among them"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {**SMALL, "initializer_range": 0.1, "num_key_value_heads": 2, "sliding_window": 6}
        return MistralForCausalLM(MistralConfig(**sizes)).eval()


MODELS: dict[str, Callable[[], nn.Module]] = {"gpt2": language_model, "llama": turning, "mistral": in_window}


def model_of(precision: str, name: str = "gpt2") -> fx.GraphModule:
    return transform(with_cache(MODELS[name]()), Recipe(precision), "cuda")


def uncaptured(
    monkeypatch: pytest.MonkeyPatch, precision: str, again: bool = False, name: str = "gpt2"
) -> fx.GraphModule:
    """again: steps as they are captured, but computed anew each time; else as calls of any kind"""

    def anew(run: Run, inputs: list[Tensor], reach: int) -> Captured:
        outputs = tuple(part.clone() for part in run(inputs, reach))

        def replay() -> None:
            for held, now in zip(outputs, run(inputs, reach), strict=True):
                held.copy_(now)

        return Captured(inputs, outputs, replay)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "capture_on", lambda device: anew if again else None)
        return model_of(precision, name)


def ids_of(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(3, tiny.VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def going_on(graph: fx.GraphModule, ids: Tensor, prompt: int, mask: Tensor | None = None) -> Iterator[Tensor]:
    """→ the logits of the tokens from the last of `prompt` on, one call a token"""
    mask, past = torch.ones_like(ids) if mask is None else mask, dict[str, Tensor]()
    for end in range(prompt, ids.shape[1] + 1):
        made = graph(input_ids=ids[:, end - 1 if past else 0 : end], attention_mask=mask[:, :end], **past)
        past = dict(zip(past_of(graph), made.past_key_values, strict=True))
        yield made.logits[:, -1]
