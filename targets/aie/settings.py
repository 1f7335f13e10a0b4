"""What the emulation is told by environment variables: they reach every command, and are read when a graph is lowered.

OPSWAP_AIE_DEVICE: xdna, xdna2 or a file (devices.load); OPSWAP_AIE_OUTPUT: int32, int16 or int8, what the array hands
back; OPSWAP_AIE_FORM: fast, or walk, tile by tile and thousands of times slower, with the same bits.
"""

import os
from dataclasses import dataclass

from targets.aie import devices
from targets.aie.devices import Device
from targets.aie.srs import OUTPUTS
from targets.base import UsageError

DEVICE, OUTPUT, FORM = "OPSWAP_AIE_DEVICE", "OPSWAP_AIE_OUTPUT", "OPSWAP_AIE_FORM"
FORMS = ("fast", "walk")


@dataclass(frozen=True)
class Settings:
    """device: whose tiles; output: a name of srs.OUTPUTS; form: one of FORMS"""

    device: Device
    output: str = "int32"
    form: str = "fast"

    @property
    def plain(self) -> bool:
        """Whether the sums themselves are wanted, by the fast form"""
        return self.output == "int32" and self.form == "fast"

    def __str__(self) -> str:
        extra = [f"{self.output} out"] * (self.output != "int32") + ["tile by tile"] * (self.form == "walk")
        return ", ".join([self.device.title, *extra])


def read() -> Settings:
    """Raises UsageError for a value that does not exist."""
    device = devices.load(os.environ.get(DEVICE) or devices.DEFAULT)
    return Settings(device, _chosen(OUTPUT, tuple(OUTPUTS), "int32"), _chosen(FORM, FORMS, "fast"))


def _chosen(variable: str, known: tuple[str, ...], default: str) -> str:
    value = os.environ.get(variable) or default
    if value not in known:
        raise UsageError(f"{variable} must be one of: {', '.join(known)}; got {value!r}")
    return value
