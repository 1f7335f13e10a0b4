"""The same inputs on several targets: what each gave, how near one is to another, and a file of it for elsewhere."""

from toolkit.validate.compare import LIMITS, Limits, Pair, compare
from toolkit.validate.file import read, save
from toolkit.validate.measure import Measured, Recorder, digest
from toolkit.validate.memory import added_memory
from toolkit.validate.page import page

__all__ = [
    "LIMITS",
    "Limits",
    "Measured",
    "Pair",
    "Recorder",
    "added_memory",
    "compare",
    "digest",
    "page",
    "read",
    "save",
]
