"""Several builds of the kernels in one cache: at once, and after one that was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from operators import build
from tests.operators.test_build import ROOT, start

# a compiler that makes a copy of the file `made` beside it, once there is no file `wait` there
COMPILER = """#!/bin/sh
[ "$1" = --version ] && echo 1 && exit
while [ -e "$0.wait" ]; do sleep 0.1; done
for last; do :; done
case " $* " in
*" -shared "*) cp "$0.made" "$last" ;;
*) touch "$last" ;;
esac
"""


def compiler(path: Path, made: Path | None = None, waits: bool = True) -> str:
    """made: what it makes, else a file of one line → the path, for CXX; waits: until there is no `path`.wait"""
    path.write_text(COMPILER)
    path.chmod(0o755)
    path.with_name(f"{path.name}.made").write_bytes(made.read_bytes() if made else b"made\n")
    if waits:
        path.with_name(f"{path.name}.wait").touch()
    return str(path)


def wait_for(files: int, cache: Path, processes: list[subprocess.Popen]) -> set[Path]:
    """→ what is in the cache as soon as that is so much; all processes go on"""
    while not cache.exists() or len(made := {*cache.iterdir()}) < files:
        assert all(process.poll() is None for process in processes)
    return made


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    """The compiler is one that copies, as a whole build takes a minute; that both load what it made shows it whole."""
    cache, program = tmp_path / "cache", compiler(tmp_path / "compiler", build.build())
    both = [start(OPSWAP_CACHE=str(cache), CXX=program) for _ in range(2)]
    try:
        wait_for(2, cache, both)
        (tmp_path / "compiler.wait").unlink()
        for process in both:
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0 and "|True|" in out and not err, err
        assert [path.suffix for path in cache.iterdir()] == [".so"]
    finally:
        for process in both:
            process.kill()


def test_what_a_killed_build_has_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another compiler too; what a build that goes on has stays."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("OPSWAP_CACHE", str(cache))
    begun = []
    for name in ("killed", "living", "next"):
        monkeypatch.setenv("CXX", compiler(tmp_path / name, waits=name != "next"))
        if name != "next":
            begun.append(subprocess.Popen([sys.executable, "-m", "operators.build"], cwd=ROOT))
    killed, living = begun
    try:
        made = wait_for(2, cache, begun)
        killed.kill()
        killed.wait()
        library = build.build()
        assert library.read_text() == "made\n"
        (stays,) = {*cache.iterdir()} - {library}
        assert stays in made
        (tmp_path / "living.wait").unlink()
        assert living.wait() == 0 and [path.suffix for path in cache.iterdir()] == [".so"] * 2
    finally:
        living.kill()
        living.wait()
        (tmp_path / "killed.wait").unlink()  # its compiler goes on
