"""SQuAD files of every layout, and one line for each that isn't one."""

import gzip
import json
from pathlib import Path

import pytest

from models import InputError
from models.question_answering.examples import Example, read_examples, read_text
from tests.models.samples import sample

# U+2028, U+0085 and form feed end a line for str.splitlines(), but not in JSON.
ODD = "one\u2028two\x85three\x0cfour"
EXPECTED = [
    Example("1", "Title", f"Ångström {ODD}", "Who?", (("Ångström", 0), ("one", 9))),
    Example("2", "Title", f"Ångström {ODD}", "Why?", ()),
]
ROWS = [
    {
        "id": example.id,
        "title": example.title,
        "context": example.context,
        "question": example.question,
        "answers": [{"text": text, "answer_start": start} for text, start in example.answers],
    }
    for example in EXPECTED
]
LISTS = [
    row | {"answers": {"text": [a["text"] for a in answers], "answer_start": [a["answer_start"] for a in answers]}}
    for row in ROWS
    for answers in [row["answers"]]
]
OFFICIAL = {
    "version": "v2.0",
    "data": [
        {
            "title": "Title",
            "paragraphs": [
                {
                    "context": EXPECTED[0].context,
                    "qas": [{key: row[key] for key in ("id", "question", "answers")} for row in ROWS],
                }
            ],
        }
    ],
}


def lines(rows: list, end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


@pytest.mark.parametrize(
    "text",
    {
        "official, one line": json.dumps(OFFICIAL),
        "official, indented": json.dumps(OFFICIAL, indent=2),
        "official, broken after its start": '{"version": "1", "data":\n' + json.dumps(OFFICIAL["data"]) + "}\n",
        "official, byte order mark": "\ufeff" + json.dumps(OFFICIAL),
        "a question a line": lines(ROWS),
        "a question a line, Windows ends": lines(ROWS, "\r\n"),
        "a question a line, blank lines": "\n" + lines(ROWS, "\n\n"),
        "a question a line, no end": lines(ROWS).rstrip(),
        "a question a line, answers as lists": lines(LISTS),
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("name", ["data.json", "data.json.gz"])
def test_layouts(tmp_path: Path, text: tuple[str, str], name: str) -> None:
    raw = text[1].encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert read_examples(tmp_path / name) == EXPECTED
    assert read_examples(tmp_path / name, limit=1) == EXPECTED[:1]


def test_one_question_alone(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(lines(ROWS[:1]), "utf-8")
    assert read_examples(str(tmp_path / "one.jsonl")) == EXPECTED[:1]


@pytest.mark.parametrize(("version", "total", "none"), [("1.1", 121, 0), ("2.0", 120, 55)])
def test_the_sample(version: str, total: int, none: int) -> None:
    examples = sample(version)
    assert len({example.id for example in examples}) == total
    assert sum(not example.answers for example in examples) == none
    for example in examples:
        assert all(example.context[start : start + len(text)] == text for text, start in example.answers)


GZIP = gzip.compress(b"{}" * 100)
BROKEN = {
    "empty": (b"", "not JSON"),
    "no JSON": (b"Who won?\n", "line 1"),
    "cut": (json.dumps(OFFICIAL).encode()[:80], "not JSON"),
    "the third line is broken": ((lines(ROWS) + '{"id": \n').encode(), "line 3"),
    "not UTF-8": ("Malmö".encode("latin-1"), "byte 4 is 0xf6"),
    "a list": (b"[]", "not laid out as SQuAD"),
    "a number": (b"5", "not laid out as SQuAD"),
    "another object": (b'{"rows": []}', "'data'"),
    "no questions": (b'{"data": []}', "no questions"),
    "articles of text": (b'{"data": ["article"]}', "not laid out as SQuAD"),
    "rows without answers": (b'{"id": 1, "context": "", "question": ""}', "'answers'"),
    "second row of another layout": ((lines(ROWS[:1]) + "7\n").encode(), "not laid out as SQuAD"),
    "answer without place": (lines([ROWS[0] | {"answers": [{"text": "x"}]}]).encode(), "answer_start"),
    "place in words": (
        lines([ROWS[0] | {"answers": [{"text": "x", "answer_start": "first"}]}]).encode(),
        "first",
    ),
    "context is null": (lines([ROWS[0] | {"context": None}]).encode(), "context is NoneType"),
    "question is a number": (lines([ROWS[0] | {"question": 3}]).encode(), "question is int"),
    "nested too deeply": (b"[" * 200_000, "nested too deeply"),
    "the second row nested too deeply": (lines(ROWS[:1]).encode() + b"[" * 200_000, "line 2: nested too deeply"),
    "a number too long": (b"9" * 5000, "not JSON"),
    "a place without end": (
        lines(ROWS[:1]).replace('"answer_start": 0', '"answer_start": 1e999').encode(),
        "not laid out as SQuAD",
    ),
    "half a surrogate pair in the context": (
        json.dumps(ROWS[0] | {"context": "a \ud800"}).encode(),
        r"the context of question '1' holds '\ud800' at character 2",
    ),
    "half a surrogate pair in the question": (
        json.dumps(ROWS[1] | {"question": "\udfffwho?"}).encode(),
        "the question of question '2'",
    ),
    "half a surrogate pair in an answer": (
        json.dumps(ROWS[0] | {"answers": [{"text": "\ud800", "answer_start": 0}]}).encode(),
        "the answer of question '1'",
    ),
    "half a surrogate pair in the id": (
        json.dumps(ROWS[0] | {"id": "\ud800"}).encode(),
        r"the id of question '\ud800'",
    ),
    "lists of two lengths": (
        lines([ROWS[0] | {"answers": {"text": ["x"], "answer_start": []}}]).encode(),
        "not laid out as SQuAD",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line(tmp_path: Path, case: str) -> None:
    raw, said = BROKEN[case]
    path = tmp_path / "data.json"
    path.write_bytes(raw)
    refused(path, said)


@pytest.mark.parametrize(
    "raw", [GZIP[:-12], GZIP[:20] + b"????" + GZIP[24:], b"no gzip"], ids=["cut", "damaged", "none"]
)
def test_a_broken_gzip_file_is_one_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "data.json.gz"
    path.write_bytes(raw)
    refused(path, "can't be read")


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    refused(tmp_path / "none.json", "no file at")
    refused(tmp_path, "can't be read")


def refused(path: Path, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_examples(path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_text_of_a_passage(tmp_path: Path) -> None:
    (tmp_path / "passage.txt").write_bytes(b"\xef\xbb\xbfMalm\xc3\xb6\r\n")
    assert read_text(tmp_path / "passage.txt") == "Malmö\r\n"
