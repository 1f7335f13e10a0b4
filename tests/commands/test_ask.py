"""`ask` on the embedded model: answers are pieces of the passage, and bad input is one line."""

import json

import pytest

from commands.story import QUESTIONS, STORY
from tests.cli import Cli
from toolkit.fuse import NAMES

STORY_ANSWERS = {
    "Who repaired the lamp of the lighthouse?": "Mara Lindqvist",
    "How many emigrants did the Aurora carry?": "214",
    "Where did she study engineering?": "Stockholm",
}
WITHOUT_ANSWER = "Which team won the football championship?"


@pytest.mark.parametrize("target", ["cpu", "customcpu", "aie"])
def test_no_command_answers_the_built_in_questions(cli: Cli, target: str) -> None:
    result = cli("--target", target, "--precision", "int", "--json")
    answers = {found["question"]: found for found in result.json["answers"]}
    assert result.code == 0
    assert list(answers) == list(QUESTIONS)
    for question, text in STORY_ANSWERS.items():
        assert text in answers[question]["text"]
    assert answers[WITHOUT_ANSWER]["no_answer"]
    assert result.json["target"]["requested"] == target
    assert result.json["target"]["native"] is (target != "aie")
    assert result.json["swapped"] == 36
    assert [kept["name"] for kept in result.json["kept"]] == ["qa_outputs"]


def test_aie_says_emulated_where_it_is_shown(cli: Cli) -> None:
    result = cli("--target", "aie", "--precision", "int")
    assert "emulated" in result.err
    assert STORY in result.out


def test_targets_give_the_same_answers_to_the_bit(cli: Cli) -> None:
    """customcpu and aie always; cpu, which fuses nothing, nearly: its head sums in another order, its attention is
    float32, theirs bfloat16."""
    unfused = [option for name in NAMES for option in ("--without", name)]
    runs = [("cpu",), ("aie", *unfused), ("customcpu", *unfused), ("aie",), ("customcpu",)]
    answers = [cli("--target", *run, "--precision", "int", "--json").json["answers"] for run in runs]
    scores = [[found["score"] for found in found_by] for found_by in answers]
    assert scores[1] == scores[2] == pytest.approx(scores[0], abs=1e-4)
    assert scores[3] == scores[4] == pytest.approx(scores[0], abs=0.1)
    assert [found["text"] for found in answers[4]] == [found["text"] for found in answers[0]]


def test_answers_are_pieces_of_the_passage_as_it_was_written(cli: Cli) -> None:
    passage = "Ångström   LABS hired Dr. O'Neill-Smith (born 1984) for €3.5 million."
    result = cli("--json", "ask", "--context", passage, "--question", "Who was hired?", "--question", "For how much?")
    for found in result.json["answers"]:
        pieces = [piece for piece in [found, *found["candidates"]] if piece["start"] is not None]
        assert pieces
        for piece in pieces:
            assert piece["text"] == passage[piece["start"] : piece["end"]] == piece["text"].strip()


def test_questions_come_from_standard_input_and_passages_from_files(cli: Cli, tmp_path) -> None:
    file = tmp_path / "passage.txt"
    file.write_text("Marie Curie was born in Warsaw.", "utf-8")
    result = cli("--json", "ask", "--context", str(file), stdin=b"Where was Marie Curie born?\n\nWho was born?\n")
    assert [found["question"] for found in result.json["answers"]] == ["Where was Marie Curie born?", "Who was born?"]
    assert result.json["answers"][0]["text"] == "Warsaw"


def test_lines_of_standard_input_end_as_those_of_a_file(cli: Cli) -> None:
    asked = "\ufeffWho repaired\u2028 the lamp?\r\nWho was the captain?"
    result = cli("--json", "ask", stdin=asked.encode())
    assert [found["question"] for found in result.json["answers"]] == ["Who repaired\u2028 the lamp?",
                                                                       "Who was the captain?"]  # fmt: skip


def test_a_question_that_is_cut_is_said(cli: Cli) -> None:
    """Its answer is that of its first 64 tokens."""
    cut = "Who " * 64
    asked = ("Who repaired the lamp?", f"{cut}repaired the lamp?", cut)
    result = cli("--json", "ask", *(part for question in asked for part in ("--question", question)))
    found = result.json["answers"]
    assert [one["question_truncated"] for one in found] == [False, True, False]
    assert found[1]["candidates"] == found[2]["candidates"]
    (said,) = (row for row in result.err.splitlines() if "tokens" in row)
    assert said == "'Who Who Who Who Who Who Who Who Who Who …' has 68 tokens, its first 64 are read: shorten it"
    assert "tokens" not in cli("ask", "--question", asked[0]).err


def test_the_threshold_turns_no_answer_off_and_on(cli: Cli) -> None:
    def ask(threshold: str) -> dict:
        arguments = ("--json", "ask", "--no-answer", threshold, "--question")
        return cli(*arguments, WITHOUT_ANSWER).json["answers"][0]

    never, always = ask("1000"), ask("-1000")
    assert never["text"] and not never["no_answer"]
    assert always["text"] == "" and always["no_answer"] and always["start"] is None
    assert 0 <= never["score"] <= 1 and 0 <= always["score"] <= 1


def test_a_long_passage_is_read_in_windows(cli: Cli) -> None:
    filler = "The weather stayed grey and nothing of note was written down that day. "
    passage = filler * 60 + "The treasure was buried by Captain Henrietta Voss in 1702. " + filler * 60
    found = cli("--json", "ask", "--context", passage, "--question", "Who buried the treasure?").json["answers"][0]
    assert "Henrietta Voss" in found["text"]
    assert found["start"] > 4000


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        (("--model", "./no-such-folder", "ask", "--question", "Who?"), b"", 1, "no model folder"),
        (("--model", " ", "ask", "--question", "Who?"), b"", 1, "no model is named"),
        (("ask", "--context", "no/such/file.txt", "--question", "Who?"), b"", 1, "no file"),
        (("ask", "--context", "", "--question", "Who?"), b"", 1, "empty"),
        (("ask", "--context", " \n ", "--question", "Who?"), b"", 1, "empty"),
        (("ask", "--context", "word " * 100_000, "--question", "Who?"), b"", 1, "100000 words"),
        (("ask",), b"", 1, "no questions"),
        (("ask",), b"Wh\xff?\n", 1, "UTF-8"),
        (("--target", "toaster", "ask"), b"Who?", 2, "customcpu"),
        (("--precision", "int3", "ask"), b"Who?", 2, "int3"),
        (("--scheme", "static", "--precision", "int", "ask"), b"Who?", 2, "--calibration"),
        (("--target", "aie", "--precision", "fp", "ask"), b"Who?", 2, "int"),
        (("--target", "cuda", "--precision", "int", "ask"), b"Who?", 1, "cuda"),
        (("--target", "hpu", "--precision", "int", "ask"), b"Who?", 2, "--precision fp8"),
        (("--strict", "--target", "aie", "--precision", "int", "ask"), b"Who?", 4, "emulated"),
        (("--strict", "--target", "cuda", "--precision", "int", "ask"), b"Who?", 4, "cuda"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_one_line(cli: Cli, arguments: tuple, stdin: bytes, code: int, said: str) -> None:
    cli(*arguments, stdin=stdin).fails_in_one_line(code, said)


def test_an_empty_question_is_one_line(cli: Cli) -> None:
    result = cli("ask", "--question", " ")
    assert result.code == 1 and "question is empty" in result.err and "Traceback" not in result.err


def test_a_file_of_broken_utf8_is_one_line(cli: Cli, tmp_path) -> None:
    file = tmp_path / "passage.txt"
    file.write_bytes("Malmö".encode("latin-1"))
    cli("ask", "--context", str(file), "--question", "Who?").fails_in_one_line(1, "UTF-8", "0xf6")


def test_a_truncated_checkpoint_is_one_line(cli: Cli, tmp_path) -> None:
    import shutil

    from models.places import resolve

    folder = tmp_path / "cut"
    shutil.copytree(resolve("minilm-squad"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    cli("--model", str(folder), "ask", "--question", "Who?").fails_in_one_line(1, "damaged")


def test_a_config_that_does_not_fit_is_one_line(cli: Cli, tmp_path) -> None:
    import shutil

    from models.places import resolve

    folder = tmp_path / "unfit"
    shutil.copytree(resolve("minilm-squad"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 1024}))
    cli("--model", str(folder), "ask", "--question", "Who?").fails_in_one_line(1, "doesn't fit")
