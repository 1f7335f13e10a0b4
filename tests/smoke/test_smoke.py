"""The main job in seconds: one real question through the quantized graph, answered right."""

import pytest

from models import load
from models.question_answering.examples import Example
from models.question_answering.predict import answer_texts, predict
from toolkit import Recipe, report_of, transform


@pytest.mark.parametrize("target", ["cpu", "customcpu", "aie"])
def test_a_question_is_answered_in_8_bits(target: str) -> None:
    model, tokenizer = load()
    graph = transform(model, Recipe(precision="int"), target)
    asked = [Example("q", "", "Marie Curie was born in Warsaw in 1867.", "Where was Marie Curie born?", ())]
    assert answer_texts(asked, predict(graph, tokenizer, asked)) == {"q": "Warsaw"}
    assert report_of(graph).swapped == 36
