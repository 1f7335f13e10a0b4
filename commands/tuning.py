"""The accuracy function of `--autotune`: F1 on the first questions of a SQuAD file, as `eval` computes it."""

from collections.abc import Callable
from typing import Any

from torch import fx
from transformers import PreTrainedTokenizerFast

from commands.common import Options, err
from models.question_answering.examples import Example, read_examples
from models.question_answering.metrics import evaluate
from models.question_answering.predict import answer_texts, predict

QUESTIONS = 500  # what every trial is judged by; F1 on so many has a standard error of 1.5 points


def read_questions(options: Options) -> list[Example] | None:
    """→ the questions of --autotune, None without it. Raises InputError for a file that is none of SQuAD."""
    return read_examples(options.autotune, QUESTIONS) if options.autotune else None


def accuracy_on(
    examples: list[Example] | None, tokenizer: PreTrainedTokenizerFast, max_length: int = 384
) -> Callable[[fx.GraphModule], float] | None:
    """→ the F1, 0 to 100, of a graph on `examples`, in windows of `max_length` tokens; None without any"""
    if examples is None:
        return None

    def accuracy(graph: Any) -> float:
        texts = answer_texts(examples, predict(graph, tokenizer, examples, max_length=max_length))
        f1 = float(evaluate(examples, texts)["f1"])
        err.print(f"autotune: F1 {f1:.2f} on {len(examples)} questions")
        return f1

    return accuracy
