"""`generate`: texts that a language model goes on with."""

import os
import time
from typing import Any

import click

from commands.common import SEED, Options, finite, out, print_json, progress_bar, refuse, written
from commands.graph import Ready, prepare
from commands.texts import given_texts, text_options
from models import InputError
from models.generation import How, generate
from models.tasks import GENERATE
from models.texts import longest_row
from toolkit.cache import past_of

PROMPT = ["In the winter of 1911 the lighthouse"]


@click.command("generate")
@text_options
@click.option("--new-tokens", default=40, show_default=True, type=click.IntRange(1), help="The most for each text.")
@click.option("--sample", is_flag=True, help="Draw the next token by its probability, instead of the likeliest.")
@click.option("--temperature", default=1.0, show_default=True, type=click.FloatRange(1e-6), callback=finite)
@click.option("--top-k", default=50, show_default=True, type=click.IntRange(0), help="Draw from the K best; 0 for all.")
@click.option("--top-p", default=1.0, show_default=True, type=click.FloatRange(0, 1, min_open=True), callback=finite,
              help="Draw from the best that reach this probability.")  # fmt: skip
@click.option("--repetition", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), callback=finite,
              help="Above 1: tokens that are in the text already lose.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED, help="The same seed draws the same text.")
@click.pass_obj
def command(options: Options, texts: tuple[str, ...], path: str | None, new_tokens: int, sample: bool,
            temperature: float, top_k: int, top_p: float, repetition: float, seed: int) -> None:  # fmt: skip
    """Text generation: greedy, or drawn with a seed. Keys and values of earlier tokens are kept, not computed again."""
    if not sample:
        refuse(written(), ("temperature", "top_k", "top_p", "seed"), "is for --sample, which is not given")
    given = given_texts(texts, path, PROMPT)
    ready = prepare(options, task=GENERATE, cache=True)
    prompts = tokens_of(
        ready.tokenizer, given, longest_row(ready.tokenizer, ready.config, None, usual=10**9), new_tokens
    )
    past = past_of(ready.graph)
    how = How(new_tokens, sample, temperature, top_k, top_p, repetition, seed)
    begun = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("generating", total=new_tokens)
        made = generate(ready.graph, prompts, how, ends(ready), ready.tokenizer.pad_token_id,
                        lambda step: bar.update(task, completed=step), past)  # fmt: skip
    seconds = time.perf_counter() - begun
    count = sum(len(one.tokens) + one.ended for one in made)
    result = {
        **ready.header,
        "texts": [
            {
                "prompt": text,
                "text": behind(ready.tokenizer, ids, one.tokens),
                "tokens": len(one.tokens),
                "ended": one.ended,
            }
            for text, ids, one in zip(given, prompts, made, strict=True)
        ],
        "sample": sample,
        "seed": seed if sample else None,
        "cache": bool(past),
        "seconds": round(seconds, 4),
        "tokens_per_second": round(count / seconds, 2),
    }
    show(options, result)


def tokens_of(tokenizer: Any, texts: list[str], positions: int, new_tokens: int) -> list[list[int]]:
    """→ the ids of each prompt. Raises InputError for one without tokens, or too long for what is to come."""
    found = []
    for text in texts:
        ids = tokenizer(text, verbose=False)["input_ids"]
        if not ids:
            raise InputError("a prompt has no tokens: give one with at least a word")
        if len(ids) + new_tokens > positions:
            raise InputError(
                f"a prompt of {len(ids)} tokens and {new_tokens} new ones are more than the model's {positions} "
                "positions: shorten it or lower --new-tokens"
            )
        found.append(ids)
    return found


def behind(tokenizer: Any, prompt: list[int], tokens: list[int]) -> str:
    """→ what `tokens` add to the text of the prompt's tokens: alone they lose the space before their first word where
    a tokenizer's decoder puts spaces between words (SentencePiece, WordPiece)"""
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *tokens])
    return str(whole[len(os.path.commonprefix([before, whole])) :])


def ends(ready: Ready) -> tuple[int, ...]:
    """→ the tokens that end a text, as generation_config or the config says; there may be none"""
    end = getattr(ready.generation, "eos_token_id", None)
    end = getattr(ready.config, "eos_token_id", None) if end is None else end
    return () if end is None else tuple(end) if isinstance(end, (list, tuple)) else (end,)


def show(options: Options, result: dict[str, Any]) -> None:
    """Each prompt with what came after it."""
    if options.json:
        print_json(result)
        return
    for one in result["texts"]:
        out.print(f"{one['prompt']}{one['text']}\n")
    out.print(f"{result['tokens_per_second']:.1f} tokens/s")
