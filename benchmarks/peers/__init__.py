"""Other engines, one file a family; this folder's listing is the registry. A file lists its own as ENGINES.

Nothing of a peer's own packages is imported before one of its engines is prepared.
"""

import importlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.peers.base import Engine
from models.errors import InputError

NOT_PEERS = ("base",)


def families() -> tuple[str, ...]:
    """The names of this folder's files that are peers; those that start with an underscore are not."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return tuple(name for name in names if name not in NOT_PEERS)


def engines() -> tuple[Engine, ...]:
    """All engines of all families, installed or not; PyTorch's first, the others by name."""
    order = sorted(families(), key=lambda name: (name != "pytorch", name))
    return tuple(engine for name in order for engine in importlib.import_module(f"{__name__}.{name}").ENGINES)


def select(patterns: Sequence[str]) -> tuple[Engine, ...]:
    """The engines whose name fits one of the shell patterns, whatever the case; all of them without a pattern.

    Raises InputError for a pattern that fits none.
    """
    known = engines()
    for pattern in patterns:
        if not any(_fits(engine, pattern) for engine in known):
            names = "; ".join(engine.name for engine in known)  # some hold commas
            raise InputError(f"no peer is called {pattern!r}; there are: {names}")
    return tuple(engine for engine in known if not patterns or any(_fits(engine, p) for p in patterns))


def _fits(engine: Engine, pattern: str) -> bool:
    return fnmatchcase(engine.name.lower(), pattern.lower())
