"""`classify`: a label for each text, or each pair of texts."""

import click

from commands.common import Options, out, print_json, refuse, written
from commands.graph import prepare
from commands.labelled import labelled
from commands.texts import given_texts, text_options
from models.classification import labels_of
from models.tasks import CLASSIFY


@click.command("classify")
@text_options
@click.option("--second", "seconds", multiple=True, help="The second text of each pair, as often as --text.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Labels listed in the JSON.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--max-length", type=click.IntRange(1), help="Tokens a text; more are cut off, and it is said.")
@click.pass_obj
def command(options: Options, texts: tuple[str, ...], path: str | None, seconds: tuple[str, ...], top: int,
            batch_size: int, max_length: int | None) -> None:  # fmt: skip
    """Sequence classification: the labels of texts or pairs of texts, with their probabilities."""
    if not options.json:
        refuse(written(), ("top",), "is for --json, which is not given")
    given = given_texts(texts, path)
    if seconds and len(seconds) != len(given):
        raise click.UsageError(f"--second makes pairs: {len(given)} texts want as many, got {len(seconds)}")
    ready = prepare(options, task=CLASSIFY)
    result = labelled(
        ready, given, batch_size, max_length,
        lambda text, window, logits: labels_of(logits, ready.config, top), seconds or None,
    )  # fmt: skip
    if options.json:
        print_json(result)
        return
    for one in result["texts"]:
        score = f"{100 * one['score']:.1f}%" if one["kind"] != "value" else f"{one['score']:.4f}"
        out.print(f"{one['label']}  {score}  {one['text']}{' (cut)' if one['truncated'] else ''}")
