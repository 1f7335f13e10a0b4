"""`ask`: questions on a passage, from the options, from standard input, or at a prompt."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from commands.common import Options, a_number, err, out, print_json, print_passage, refuse, written
from commands.graph import Ready, prepare
from commands.prompt import converse
from commands.story import QUESTIONS, STORY
from commands.texts import STDIN, lines_of, standard_input, window_options
from models import InputError
from models.outside import require_characters
from models.question_answering.examples import Example, read_text
from models.question_answering.features import MAX_QUESTION_TOKENS, cut_questions
from models.question_answering.predict import predict
from models.question_answering.spans import Answer
from models.texts import longest_row

MAX_WORDS = 50_000  # about 300 windows of 384 tokens: half a minute on two cores
BATCH = 8  # windows of a long passage at once
SHOWN = 40  # characters of a question that is spoken of


@dataclass(frozen=True)
class How:
    """How a question is answered: null threshold in logits, candidates listed, window and overlap in tokens,
    None for the usual."""

    threshold: float = 0.0
    candidates: int = 5
    max_length: int | None = None
    stride: int | None = None


@click.command("ask")
@click.option("--context", "passage", help="The passage, or the file that holds it.  [default: the built-in story]")
@click.option("--question", "questions", multiple=True, help="One-shot; repeatable.")
@click.option(
    "--no-answer",
    "threshold",
    default=0.0,
    show_default=True,
    callback=a_number,
    help="Say 'no answer' where its logit beats the best span's by more than this; higher answers more.",
)
@click.option("--candidates", default=5, show_default=True, type=click.IntRange(1, 20), help="How many in the JSON.")
@window_options
@click.option(
    "--max-words",
    default=MAX_WORDS,
    show_default=True,
    type=click.IntRange(1),
    help="Refuse a longer passage.",
)
@click.pass_obj
def command(options: Options, passage: str | None, questions: tuple[str, ...], **settings: Any) -> None:  # fmt: skip
    """Answer questions on a passage, interactively or one-shot; answers are pieces of the passage."""
    if not options.json:
        refuse(written(), ("candidates",), "is for --json, which is not given")
    max_words = settings.pop("max_words")
    how = How(**settings)
    context = read_passage(passage, max_words) if passage is not None else STORY
    asked = list(questions)
    if not asked and (options.json or not sys.stdin.isatty()):
        asked = lines_of(standard_input(), STDIN, "questions: give one a line, or --question")
    for question in asked:
        require_question(question)
    ready = warmed_up(options, how)
    if not asked:
        converse(
            context,
            read_passage=lambda text: read_passage(text, max_words),
            answer=lambda passage, question: line(answer(ready, passage, question, how)),
        )
        return
    show(options, ready, [answer(ready, context, question, how) for question in asked])


@click.pass_obj
def demonstrate(options: Options) -> None:
    """The built-in questions on the built-in story."""
    ready = warmed_up(options, How())
    if not options.json:
        print_passage(STORY)
    show(options, ready, [answer(ready, STORY, question, How()) for question in QUESTIONS])


def warmed_up(options: Options, how: How) -> Ready:
    """The graph after a first call, so that the first question isn't charged for what happens once."""
    ready = prepare(options)
    answer(ready, STORY, QUESTIONS[0], how)
    return ready


def show(options: Options, ready: Ready, answers: list[dict[str, Any]]) -> None:
    """Prints the answers, as lines or as one JSON object."""
    if options.json:
        print_json({**ready.header, "answers": answers})
        return
    for found in answers:
        out.print(f"Q: {found['question']}\nA: {line(found)}")


def answer(ready: Ready, context: str, question: str, how: How) -> dict[str, Any]:
    """One question's JSON: text and score (probability) of the best span, its place, time, other candidates."""
    require_question(question)  # what is typed at a prompt may be any bytes
    example = Example("0", "", context, question, ())
    tokens = cut_questions(ready.tokenizer, [example]).get(0)
    if tokens:
        start = " ".join(question.split())[:SHOWN]
        err.print(f"'{start}…' has {tokens} tokens, its first {MAX_QUESTION_TOKENS} are read: shorten it")
    begun = time.perf_counter()
    length = longest_row(ready.tokenizer, ready.config, how.max_length)
    found = predict(ready.graph, ready.tokenizer, [example], BATCH, length, how.stride)[0]
    elapsed = 1000 * (time.perf_counter() - begun)
    pieces = _pieces(context, found)
    null = found.is_null(how.threshold)
    best = {"text": "", "score": 1.0 - sum(piece["score"] for piece in pieces), "start": None, "end": None}
    return {
        "question": question,
        "question_truncated": tokens is not None,
        **(best if null else pieces[0]),
        "no_answer": null,
        "latency_ms": round(elapsed, 2),
        "candidates": pieces[: how.candidates],
    }


def _pieces(context: str, found: Answer) -> list[dict[str, Any]]:
    return [
        {"text": context[span.start : span.end], "score": score, "start": span.start, "end": span.end}
        for span, score in zip(found.spans, found.probabilities, strict=True)
    ]


def line(found: dict[str, Any]) -> str:
    """Answer, confidence and time in one line."""
    text = "no answer in this passage" if found["no_answer"] else " ".join(found["text"].split())
    return f"{text}  (confidence {100 * found['score']:.0f}%, {found['latency_ms']:.0f} ms)"


def require_question(question: str) -> None:
    """Raises InputError for one that is empty, or no text."""
    if not question.strip():
        raise InputError("the question is empty: give one with at least a word")
    require_characters(question, "the question")


def read_passage(given: str, max_words: int = MAX_WORDS) -> str:
    """The passage itself, or the text of the file it names. Raises InputError when it is empty or too long."""
    text, source, place = given, "the passage", os.path.expanduser(given)
    if _names_file(place):
        text, source = read_text(place), place
    require_characters(text, source)
    words = len(text.split())
    if words == 0:
        raise InputError(f"{source} is empty: give a passage with at least a sentence")
    if words > max_words:
        raise InputError(f"{source} has {words} words, at most {max_words} wanted: shorten it or raise --max-words")
    return text


def _names_file(given: str) -> bool:
    """A file that exists, or a single word that ends like one and so must have been meant as one."""
    if len(given) > 1000 or "\n" in given or not given.strip():
        return False
    path = Path(given)
    return path.exists() or (len(given.split()) == 1 and (path.suffix in (".txt", ".md", ".gz") or "/" in given))
