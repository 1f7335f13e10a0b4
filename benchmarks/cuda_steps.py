"""How fast `generate` goes on cuda, beside PyTorch's own with compiled steps: whole calls, prompts and captures too."""

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks import cuda_work
from benchmarks.cuda_peers import PEERS
from benchmarks.cuda_work import OURS, Work
from benchmarks.peers.base import Batch, Run
from models.generation import How, generate
from toolkit import Recipe, transform
from toolkit.cache import past_of, with_cache

GIVEN, NEW, ROUNDS = 128, 256, 20  # tokens; calls
PEER = PEERS[0]
# As published: Llama 3.2 (Meta, 2024), its smallest; GPT-2 (Radford et al. 2019), table 2, its smallest.
SHAPES: dict[str, Callable[[], PreTrainedModel]] = {
    "Llama 3.2 1B": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
            num_key_value_heads=8, max_position_embeddings=8192, tie_word_embeddings=True,
        )
    ),
    "GPT-2": lambda: GPT2LMHeadModel(GPT2Config()),
}  # fmt: skip


def work_of(shape: str, rows: int = 1) -> Work:
    """shape: a key of SHAPES → its model with random weights, and prompts of random tokens"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SHAPES[shape]().eval()
    ids = torch.randint(3, model.config.vocab_size, (rows, GIVEN), generator=torch.Generator().manual_seed(0))
    batch = [{"input_ids": ids}]
    return Work(f"{shape}, batch {rows}", model, batch, batch, rows, ROUNDS)


def prepare(name: str, work: Work) -> Run:
    """An engine of OURS, or PEER → prompts → the NEW tokens of each [rows, NEW], on the CPU"""
    if name in OURS:
        return ours(work.model, OURS[name], "cuda", strict=True)
    return compiled(work.model, torch.device("cuda"))


def ours(model: Any, precision: str, target: str, strict: bool = False) -> Run:
    graph = transform(with_cache(model), Recipe(precision), target, strict=strict, last_token=True)
    past, how = past_of(graph), How(NEW)

    def run(batch: Batch) -> tuple[Tensor]:
        made = generate(graph, batch["input_ids"].tolist(), how, (), 0, past=past)
        return (torch.tensor([one.tokens for one in made]),)

    return run


def compiled(model: Any, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Run:
    """transformers' generate in `dtype` with a cache of one size, whose steps it compiles to CUDA graphs on a GPU"""
    private = copy.deepcopy(model).to(device, dtype).eval()
    how = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "cache_implementation": "static"}

    def run(batch: Batch) -> tuple[Tensor]:
        ids = batch["input_ids"].to(device)
        with torch.inference_mode():
            found = private.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **how)
        return (found[:, ids.shape[1] :].cpu(),)

    return run


def measured() -> list[dict[str, Any]]:
    """→ what came of each of SHAPES"""
    found = []
    for shape in SHAPES:
        work = work_of(shape)
        found.append(told(work.name, cuda_work.times(work, prepare, (*OURS, PEER)), work.rows))
        torch.cuda.empty_cache()
    return found


def not_measured(reason: str) -> list[dict[str, Any]]:
    return [told(f"{shape}, batch 1", dict.fromkeys((*OURS, PEER), reason), 1) for shape in SHAPES]


def told(name: str, times: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """times: milliseconds of each call, or why there are none → tokens/s of each engine's median, and the others"""
    medians = {engine: statistics.median(value) for engine, value in times.items() if not isinstance(value, str)}
    rates = {engine: round(1000 * NEW * rows / value, 1) for engine, value in medians.items()}
    left_out = {engine: value for engine, value in times.items() if isinstance(value, str)}
    return {"work": name, "unit": "tokens/s", "figures": rates, "left_out": left_out, "milliseconds": dict(times)}


def markdown(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """→ rows of the table of goals, of which these are none"""
    lines = []
    for entry in found:
        rates: Mapping[str, float] = entry["figures"]
        mine = {name: rate for name, rate in rates.items() if name in OURS}
        best = max(mine, key=lambda name: mine[name], default=None)
        reached = f"{mine[best]} ({best})" if best else "not measured"
        gain = f"{mine[best] / rates[PEER]:.3f}" if best and PEER in rates else "not measured"
        lines += [f"| tokens/s of `generate`, {entry['work']} | – | {reached} | – |",
                  f"| times as fast as {PEER} | – | {gain} | – |"]  # fmt: skip
    return lines
