"""What 8 bits cost a language model: `python -m benchmarks.causal --train train.jsonl.gz`.

Random weights answer at random, and a rounding error turns such answers easily; so a small GPT-2 is trained first, on
SQuAD's passages, in minutes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import targets
from benchmarks.one_line import OneLine
from models.errors import InputError
from models.question_answering.examples import read_examples
from toolkit import Recipe, transform
from toolkit.recipe import LM_HEAD, Rule
from toolkit.sensitivity.fidelity import Fidelity

VOCABULARY, LENGTH = 4096, 64  # tokens
HELD_OUT = 39  # passages that it is not trained on
BATCH, RATE = 32, 1e-3
BEGINNINGS, BEGUN, CONTINUED = 25, 16, 32  # texts; tokens of each that are given, and that are to come
HEAD = f"*{LM_HEAD}"
RECIPES = {
    "int, head in float": Recipe("int", keep=(HEAD,)),
    "int": Recipe("int"),
    "int, the head with the scheme `weight`": Recipe("int", rules=(Rule(HEAD, scheme="weight"),)),
    "`--scheme weight`, head in float": Recipe("int", scheme="weight", keep=(HEAD,)),
    "`--scheme weight`": Recipe("int", scheme="weight"),
}


def passages(path: str) -> list[str]:
    """→ those of a SQuAD file, each once. Raises InputError for a file that is none, or has too few."""
    found = list(dict.fromkeys(example.context for example in read_examples(path)))
    if len(found) <= HELD_OUT:
        raise InputError(f"more than {HELD_OUT} passages were wanted; {path} has {len(found)}: give a larger file")
    return found


def tokenizer_of(texts: list[str]) -> Tokenizer:
    """→ byte-level BPE, as GPT-2's, of VOCABULARY tokens"""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def batches(tokens: Tensor, steps: int) -> Iterator[Tensor]:
    """tokens int64 [N] → int64 [BATCH, LENGTH], `steps` times, from places that a seed decides"""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(0, len(tokens) - LENGTH, (BATCH, 1), generator=generator)
        yield tokens[starts + torch.arange(LENGTH)]


def trained(tokens: Tensor, steps: int) -> GPT2LMHeadModel:
    """→ a GPT-2 of 4 layers and 256 channels, after `steps` steps of AdamW on a line that falls to 0"""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": 256, "n_layer": 4, "n_head": 4}
    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for ids in track(batches(tokens, steps), "training", steps):
        loss_of(model(input_ids=ids).logits, ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        falling.step()
    return model.eval()


@torch.inference_mode()
def logits_of(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()


def continued(model: Any, ids: Tensor) -> Tensor:
    """ids int64 [B, S] → [B, S + CONTINUED], each new token the likeliest"""
    for _ in range(CONTINUED):
        ids = torch.cat([ids, logits_of(model, ids)[:, -1:].argmax(-1)], 1)
    return ids


def row(name: str, found: Tensor, wanted: Tensor, ids: Tensor, texts: tuple[Tensor, Tensor]) -> str:
    """found, wanted: logits float32 [B, S, V] for ids; texts: those that were continued → a row of the table"""
    equal = (found.argmax(-1) == wanted.argmax(-1)).double().mean()
    same = int((texts[0] == texts[1]).all(1).sum())
    fidelity = Fidelity()
    fidelity.add(wanted, found)
    return (
        f"| {name} | {fidelity.sqnr_db:.1f} dB | {loss_of(found, ids):.4f} | {equal:.1%} | {same} of {len(texts[0])} |"
    )


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@click.command(cls=OneLine)
@click.option("--train", "path", required=True, help="A SQuAD file, whose passages are the text.")
@click.option("--steps", type=click.IntRange(1), default=1500, show_default=True)
@click.option("--target", type=click.Choice(targets.names()), default="customcpu", show_default=True)
@click.option("--save", type=click.Path(path_type=Path), help="A folder for the model in float.")
def main(path: str, steps: int, target: str, save: Path | None) -> None:
    """Trains a small GPT-2, and prints what 8 bits change on passages that it has not seen."""
    texts = passages(path)
    tokenizer = tokenizer_of(texts[:-HELD_OUT])
    model = trained(torch.tensor(tokenizer.encode("\n".join(texts[:-HELD_OUT])).ids), steps)
    if save is not None:
        model.save_pretrained(save)
    unseen = [encoded.ids[:LENGTH] for encoded in tokenizer.encode_batch(texts[-HELD_OUT:])]
    ids = torch.tensor([each for each in unseen if len(each) == LENGTH])
    begun = ids[:BEGINNINGS, :BEGUN]
    wanted, text = logits_of(model, ids), continued(model, begun)
    print(f"| `{target}` | SQNR of the logits | loss (float {loss_of(wanted, ids):.4f}) ", end="")
    print("| likeliest token equal | texts equal |\n|---|---|---|---|---|")
    for name, recipe in RECIPES.items():
        graph = transform(model, recipe, target)
        print(row(name, logits_of(graph, ids), wanted, ids, (continued(graph, begun), text)), flush=True)


if __name__ == "__main__":
    main()
