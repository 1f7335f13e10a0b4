"""The compiled kernels of a kind that has a list of its own: which there are, which run, and forcing one.

Without forcing, the best one runs that this CPU can, whatever the others are: one with AVX-512 but no VNNI multiplies
bytes on AVX2, floats on AVX-512. Where kernels are forced (`kernels.use`, $OPSWAP_ISA), none that goes with better
ones: with those of AVX2, attention and floats run on AVX2 too.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

from operators import kernels


@dataclass(frozen=True)
class Choice:
    """kind: what csrc/KIND.inc lists, and what the exported functions opswap_KIND_* choose from."""

    kind: str

    def built(self) -> tuple[str, ...]:
        """All that were compiled, best first; empty when no kernels are loaded."""
        return tuple(self._call("name", i).decode() for i in range(self._call("count"))) if kernels.library() else ()

    def runnable(self) -> tuple[str, ...]:
        """Those of `built` that this CPU can run, best first."""
        return tuple(name for i, name in enumerate(self.built()) if self._call("runs_here", i))

    def used(self) -> str:
        """The one that answers for CPU tensors now: a name of `built`, or "reference"."""
        return self.built()[self._call("used")] if kernels.library() else kernels.REFERENCE

    def use(self, name: str | None) -> None:
        """Makes `name` serve all later calls in this process; None: the best one again. Raises ValueError when it
        was not built, does not run here, or no kernels are loaded."""
        what = f"{self.kind}_kernels.use({name!r})"
        if kernels.library() is None:
            raise ValueError(f"{what}: no compiled kernels are loaded; call kernels.load()")
        if name is not None and name not in self.runnable():
            why = "this CPU cannot run it" if name in self.built() else "there is no such kernel"
            raise ValueError(f"{what}: {why}; name one of {', '.join(self.runnable())}")
        self._call("use", -1 if name is None else self.built().index(name))

    def _call(self, what: str, *args: int) -> Any:
        function = getattr(kernels.library(), f"opswap_{self.kind}_{what}")
        function.restype = ctypes.c_char_p if what == "name" else ctypes.c_int
        return function(*args)


attention_kernels = Choice("attention")  # csrc/attention.inc
float_kernels = Choice("float")  # csrc/float.inc
