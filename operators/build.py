"""Builds the kernels in csrc/ into one shared library, cached by everything that it depends on.

`python -m operators.build` builds it and prints its path. $CXX names the compiler, $OPSWAP_CACHE the folder
(default ~/.cache/opswap). A source file whose first line is `// build: MACHINE FLAGS` is compiled with those
flags, and only on that machine.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from operators.own_folder import making, remove_left

PREFIX = "kernels-"
SOURCES = Path(__file__).parent / "csrc"
TORCH = Path(torch.__file__).parent
FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno"),  # no fused multiply-add: float results equal the reference's
    "-DTORCH_TARGET_VERSION=0x020a000000000000",  # the stable ABI of torch 2.10: one binary serves later ones
)
LINK = ("-shared", f"-L{TORCH / 'lib'}", "-ltorch_cpu")


class BuildError(RuntimeError):
    """The kernels could not be built: one line; `log` holds all that the compiler said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


def cache_folder() -> Path:
    named = os.environ.get("OPSWAP_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "opswap"


def compiler() -> list[str]:
    """The compiler's command: $CXX, else c++."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def _run(command: list[str]) -> str:
    """Runs it and returns its output. Raises BuildError when it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"no C++ compiler: {command[0]}: {error.strerror}; install one or set CXX") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        todo = "for all of it: python -m operators.build"
        raise BuildError(f"{command[0]} failed: {lines[0]}; {todo}", shlex.join(command) + "\n" + done.stderr)
    return done.stdout


def _objects(machine: str) -> dict[str, list[str]]:
    """Each source file to compile on this machine, and the flags that are its own."""
    found = {}
    for source in sorted(SOURCES.glob("*.cpp")):
        first = source.read_text().partition("\n")[0]
        wanted = first.removeprefix("// build:").split() if first.startswith("// build:") else [machine]
        if wanted[0] == machine:
            found[source.name] = wanted[1:]
    return found


def _key(command: list[str]) -> str:
    parts = [_run([*command, "--version"]), torch.__version__, platform.machine(), *command, *FLAGS, *LINK]
    for source in sorted(SOURCES.iterdir()):
        parts += [source.name, source.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _build(command: list[str], library: Path) -> None:
    """Compiles all files at once in a folder of its own; the result is renamed into place, so that processes
    which build at the same time do not see each other's halves. What killed builds have left, of whichever sources,
    is removed."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_left(library.parent, rf"{PREFIX}\w+\.so")
    with making(library) as folder:
        objects = _objects(platform.machine())

        def compile_one(name: str) -> str:
            to = f"{folder}/{name}.o"
            include = ["-isystem", str(TORCH / "include")]
            _run([*command, *FLAGS, *objects[name], *include, "-c", str(SOURCES / name), "-o", to])
            return to

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = list(pool.map(compile_one, objects))
        ready = f"{folder}/{library.name}"
        _run([*command, *compiled, *LINK, "-o", ready])
        os.replace(ready, library)


def build() -> Path:
    """Returns the library's path, after compiling it if no earlier build fits. Raises BuildError (one line)."""
    command = compiler()
    try:
        library = cache_folder() / f"{PREFIX}{_key(command)}.so"
        if not library.exists():
            if sys.stderr.isatty():
                print("opswap: compiling the kernels for this CPU, once", file=sys.stderr)
            _build(command, library)
    except OSError as error:
        raise BuildError(f"cannot write the kernels: {error}; set OPSWAP_CACHE to a folder that can be") from error
    return library


def opened(library: Path) -> ctypes.CDLL:
    """Loads it. Raises BuildError (one line)."""
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        todo = "remove that file, or set OPSWAP_CACHE to a folder that code may run from"
        raise BuildError(f"the kernels cannot be loaded: {error}; {todo}") from error


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as failure:
        sys.exit(f"{failure.log}{failure}")
