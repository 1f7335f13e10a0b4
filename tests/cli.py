"""run.py called in this process as a user would call it."""

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

import run


@dataclass(frozen=True)
class Result:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    def fails_in_one_line(self, code: int, *said: str) -> None:
        """Exit code, no output, one line on standard error that says each of `said`, no traceback."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert (self.code, self.out) == (code, ""), self
        assert len(lines) == 1, self.err
        for part in said:
            assert part in lines[0]


class Cli:
    """Calls run.py; standard input is no terminal and holds `stdin`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        self.monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run.entry()
        printed = self.capsys.readouterr()
        return Result(int(stopped.value.code or 0), printed.out, printed.err)
