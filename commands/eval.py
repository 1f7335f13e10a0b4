"""`eval`: exact match and F1 on a SQuAD file, and the gate of a scripted accuracy regression."""

import json
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.files import require_places, write
from commands.common import GATE_MISSED, Options, a_number, err, finite, out, print_json, progress_bar, refuse, written
from commands.graph import prepare
from commands.texts import window_options
from models.question_answering.examples import Example, read_examples
from models.question_answering.features import MAX_QUESTION_TOKENS, cut_questions
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, predict
from models.question_answering.regression import (
    CONFIDENCE,
    Regression,
    compare,
    read_baseline,
    require_same_questions,
)
from models.texts import longest_row


@click.command("eval")
@click.option("--data", required=True, help="SQuAD v1.1 or v2.0 file, .gz or not.")
@click.option("--limit", type=click.IntRange(1), help="The first N questions only.")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1))
@window_options
@click.option(
    "--no-answer",
    "threshold",
    default=0.0,
    show_default=True,
    callback=a_number,
    help="v2.0 only: 'no answer' where its logit beats the best span's by more than this.",
)
@click.option("--predictions", type=click.Path(path_type=Path), help="Write question id → answer as JSON.")
@click.option("--baseline", help="A saved --json report to compare with.")
@click.option("--max-drop", type=click.FloatRange(0), callback=finite,
              help="F1 points under --baseline that are still accepted; more is exit code 3.")  # fmt: skip
@click.option("--summary", is_flag=True, help="Leave the answers out of the JSON; a baseline to pair with needs them.")
@click.pass_obj
def command(
    options: Options,
    data: str,
    limit: int | None,
    batch_size: int,
    max_length: int | None,
    stride: int | None,
    threshold: float,
    predictions: Path | None,
    baseline: str | None,
    max_drop: float | None,
    summary: bool,
) -> None:
    """SQuAD v1.1 and v2.0: exact match and F1 as the official scripts compute them."""
    if max_drop is not None and baseline is None:
        raise click.UsageError("--max-drop needs the report to compare with: give --baseline FILE")
    if not options.json:
        refuse(written(), ("summary",), "is for --json, which is not given")
    wanted = read_baseline(baseline) if baseline else None
    require_places(predictions)
    examples = read_examples(data, limit)
    answerable = all(example.answers for example in examples)
    if answerable and "threshold" in written():
        raise click.UsageError("--no-answer is for questions without an answer; all of these have one: leave it out")
    if wanted is not None:
        require_same_questions(wanted, Path(data).name, examples)
    ready = prepare(options)
    length = longest_row(ready.tokenizer, ready.config, max_length)
    cut = len(cut_questions(ready.tokenizer, examples))
    if cut:
        many = f"{cut} of {len(examples)} questions have more than {MAX_QUESTION_TOKENS} tokens"
        err.print(f"{many}: their first {MAX_QUESTION_TOKENS} are read")
    begun = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)
        answers = predict(
            ready.graph, ready.tokenizer, examples, batch_size, length, stride,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    seconds = time.perf_counter() - begun
    # v1.1 has an answer to every question, so the null answer is in play on v2.0 alone.
    texts = answer_texts(examples, answers, None if answerable else threshold)
    if predictions:
        write(predictions, json.dumps(texts, ensure_ascii=False))
    result = {
        **ready.header,
        "data": Path(data).name,
        **evaluate(examples, texts),
        "questions_truncated": cut,
        "seconds": round(seconds, 2),
    }
    result["samples_per_second"] = round(len(examples) / seconds, 2)
    found = None if wanted is None else compare(wanted, examples, texts, result["f1"])
    passed = found is None or max_drop is None or found.drop <= max_drop
    if found is not None:
        result |= {**found.as_json(), "max_drop": max_drop, "passed": passed}
    if options.json:
        print_json(result if summary else {**result, "answers": texts})
    else:
        _print(result, examples)
        if found is not None:
            _print_regression(found, len(examples))
    if found is not None and not passed:
        err.print(
            f"opswap: F1 fell by {found.drop:.3f}, at most {max_drop} accepted (baseline {found.baseline_f1:.3f})"
        )
        raise click.exceptions.Exit(GATE_MISSED)


def _print(result: dict[str, Any], examples: list[Example]) -> None:
    def row(title: str, prefix: str) -> str:
        em, f1 = result[f"{prefix}exact_match"], result[f"{prefix}f1"]
        return f"{title:<12} exact match {em:6.2f}   F1 {f1:6.2f}   questions {result[f'{prefix}total']}"

    out.print(row("all", ""))
    for title, prefix in (("answerable", "HasAns_"), ("unanswerable", "NoAns_")):
        if f"{prefix}f1" in result:
            out.print(row(title, prefix))
    out.print(f"{result['seconds']:.1f} s, {result['samples_per_second']:.1f} questions a second")


def _print_regression(found: Regression, total: int) -> None:
    drop = f"baseline F1 {found.baseline_f1:.2f}, drop {found.drop:+.3f}"
    if found.interval is None or found.equal_answers is None or found.most_changed is None:
        out.print(f"{drop}; no interval: {found.unpaired}")
        return
    low, high = found.interval
    out.print(f"{drop} ({100 * CONFIDENCE:.0f}% interval {low:+.3f} to {high:+.3f}, paired bootstrap)")
    out.print(f"equal answers {found.equal_answers} of {total} ({100 * found.equal_answers / total:.2f}%)")
    for change in found.most_changed:
        out.print(f"\nF1 {100 * change.f1_before:.0f} → {100 * change.f1_after:.0f}  {change.question.strip()}")
        gold = " | ".join(change.gold) or "no answer"
        for name, text in (("gold", gold), ("before", change.before), ("now", change.after)):
            out.print(f"  {name:<7}{' '.join(text.split()) or 'no answer'}")
