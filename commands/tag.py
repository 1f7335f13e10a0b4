"""`tag`: names, places or whatever else a token classifier finds in texts."""

from dataclasses import asdict
from typing import Any

import click
from torch import Tensor

from commands.common import Options, out, print_json
from commands.graph import prepare
from commands.labelled import labelled
from commands.texts import given_texts, text_options
from models.question_answering.features import Window
from models.tagging import entities_of, words_of
from models.tasks import TAG


@click.command("tag")
@text_options
@click.option("--words", "every", is_flag=True, help="Every word with its label, not the pieces that they make.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--max-length", type=click.IntRange(1), help="Tokens a text; more are cut off, and it is said.")
@click.pass_obj
def command(options: Options, texts: tuple[str, ...], path: str | None, every: bool, batch_size: int,
            max_length: int | None) -> None:  # fmt: skip
    """Token classification: the labelled pieces of texts, with their places and probabilities."""
    if every and options.json:
        raise click.UsageError("--words is for what is printed; the JSON has them anyway: leave it out")
    given = given_texts(texts, path)
    ready = prepare(options, task=TAG)

    def said(text: str, window: Window, logits: Tensor) -> dict[str, Any]:
        words = words_of(text, window, logits[: len(window)], ready.config.id2label)
        return {
            "entities": [asdict(entity) for entity in entities_of(text, words)],
            "words": [{"text": text[word.start : word.end], **asdict(word)} for word in words],
        }

    result = labelled(ready, given, batch_size, max_length, said)
    if options.json:
        print_json(result)
        return
    for one in result["texts"]:
        out.print(f"{one['text']}{' (cut)' if one['truncated'] else ''}")
        pieces = one["words" if every else "entities"]
        for piece in pieces:
            out.print(f"  {piece['label']}  {piece['text']}  {100 * piece['score']:.1f}%")
        if not pieces:
            out.print("  nothing found")
