"""The NPUs as data: what the emulator tiles by, what the mapper keeps within and what the cycle model counts with.

Where the figures come from: [G] "Striking the Balance: GEMM Performance Optimization Across Generations of Ryzen AI
NPUs", arXiv 2512.13282; [D] AMD's documentation of the AI Engine-ML and of the amdxdna driver; [F] fitted to the
points in measured.py, which a test repeats; [H] measured with this project's operators on two Zen 5 cores.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from targets.base import UsageError

BYTES = {"int8": 1, "int16": 2, "int32": 4, "bf16": 2}  # of an element


@dataclass(frozen=True)
class Multiply:
    """What a compute tile's vector unit does with one type: `native`, the M×K×N block that it multiplies, and
    multiply-adds a cycle."""

    native: tuple[int, int, int]
    macs: int


@dataclass(frozen=True)
class Device:
    """One NPU. Sizes in bytes, rates a second, costs in seconds or cycles of `clock` (Hz).

    rows, columns: the compute tiles that a GEMM uses; a row of tiles shares A, a column shares B. types: what can be
    multiplied. l1, l2: data memory of a compute tile, of a memory tile (one a column); l1_used: what tiles of A, B
    and C may take of l1, the rest is stack. stream: bytes a cycle of a compute tile's DMA channel; it has one for A,
    one for B, one for C. step: what m and n are multiples of, as the kernel keeps 2×2 native blocks in registers (4×2
    where they are 4 high). least_k: the least depth of a tile; with less, calls and locks would show, which the model
    leaves out.
    read, write: DRAM bandwidth in GEMM. dispatch: of one piece of work, start to finish, that does nothing; queued:
    of one in a queue, behind another; reconfigure: loading another design into the whole array.
    sum_cycles and sum_byte_cycles: what the kernel pays for each element of C, and each byte of it, in each pass over
    k: it fetches the sums, adds, and puts them back. stretch: by how much multiplying is slower than its peak.
    host_elements, host_macs: elements that the host scales, adds, normalizes or quantizes, and multiply-adds of its
    attention.
    """

    name: str
    title: str
    clock: float
    rows: int
    columns: int
    types: Mapping[str, Multiply] = field(hash=False)
    read: float
    write: float
    dispatch: float
    queued: float
    reconfigure: float
    sum_cycles: float
    sum_byte_cycles: float
    stretch: float
    l1: int = 64 * 1024  # [G] [D]
    l1_used: int = 63 * 1024  # [G] equation 5: 1 KB of stack
    l2: int = 512 * 1024  # [G] [D]
    stream: int = 4  # [D] a 32-bit stream a DMA channel
    step: int = 16
    least_k: int = 56  # [G] the shortest that was measured
    host_elements: float = 3e9  # [H]
    host_macs: float = 350e9  # [H] bfloat16 attention

    @property
    def tiles(self) -> int:
        return self.rows * self.columns

    def peak(self, dtype: str = "int8") -> float:
        """→ multiply-adds a second of the whole array"""
        return self.tiles * self.types[dtype].macs * self.clock


XDNA = Device(
    name="xdna",
    title="XDNA (Phoenix, Hawk Point)",
    clock=1.0e9,  # [G] as measured there
    rows=4,
    columns=4,  # [G] of 5: one has no way to DRAM
    types={"int8": Multiply((4, 8, 8), 256), "bf16": Multiply((4, 8, 4), 128)},  # [G] [D]
    read=15.9e9,  # [F]; [G] says about 15
    write=15.9e9,  # the same, as nothing else is known
    dispatch=0.55e-3,  # [G]
    queued=75e-6,  # [G] amortised
    reconfigure=3.4e-3,  # [G]
    sum_cycles=0.0315,  # [F]
    sum_byte_cycles=0.0551,  # [F]: 18 bytes a cycle there and back; its ports are 32 wide
    stretch=0.0,  # at its peak: where it is fitted too, it comes out at −0.02
)
XDNA2 = Device(
    name="xdna2",
    title="XDNA2 (Strix, Krackan)",
    clock=1.8e9,  # [G] as measured there
    rows=4,
    columns=8,  # [G]
    types={"int8": Multiply((8, 8, 8), 512)},  # [G] [D]
    read=48.9e9,  # [F]; [G] says about 50
    write=48.9e9,  # the same, as nothing else is known
    dispatch=0.57e-3,  # [G]
    queued=75e-6,  # as on XDNA: not measured, and a single dispatch costs the same
    reconfigure=4.9e-3,  # [G]
    sum_cycles=0.0315,  # [F] shared with XDNA
    sum_byte_cycles=0.0194,  # [F]: 52 bytes a cycle there and back; its ports are 64 wide
    stretch=0.14,  # [F]: an 8×8×8 block wants 128 bytes of A and B a cycle
)
BUILT_IN = {device.name: device for device in (XDNA, XDNA2)}
DEFAULT = XDNA2.name  # the generation that is sold today


def load(name: str) -> Device:
    """name: a built-in device, or a YAML or JSON file with the fields of Device; what it leaves out it has from the
    device that its `base` names (xdna2 where it names none). Raises UsageError."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = Path(name)
    if not path.is_file():
        known = ", ".join(BUILT_IN)
        raise UsageError(f"unknown device {name!r}; choose one of: {known}; or give a YAML or JSON file of your own")
    try:
        read = yaml.safe_load(path.read_text("utf-8"))
        repr(read)  # hexadecimal digits may be more than Python writes as decimal ones, when a value is refused
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no date, or too many digits
        raise UsageError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise UsageError(f"{name} must hold keys and values of a device; got {type(read).__name__}")
    base = read.pop("base", DEFAULT)
    if not isinstance(base, str) or base not in BUILT_IN:
        raise UsageError(f"{name}: base must be one of: {', '.join(BUILT_IN)}; got {base!r}")
    return _parsed({"name": path.stem, "title": path.stem, **read}, BUILT_IN[base], name)


def _parsed(values: dict[str, Any], base: Device, where: str) -> Device:
    known = {one.name: one.type for one in fields(Device)}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{where} has an unknown key {key!r}; known are: base, {', '.join(known)}")
        if key == "types":
            values = {**values, key: _types(value, where)}
        elif isinstance(getattr(base, key), str):
            _require(isinstance(value, str), where, key, "text", value)
        elif isinstance(getattr(base, key), int):
            _require(type(value) is int and value > 0, where, key, "a whole number above 0", value)
        else:
            least = key in ("read", "write", "clock", "host_elements", "host_macs")
            number = type(value) in (int, float) and 0 <= value <= sys.float_info.max and (value > 0 or not least)
            _require(number, where, key, f"a number {'above' if least else 'from'} 0", value)
    return replace(base, **values)


def _types(read: Any, where: str) -> dict[str, Multiply]:
    """→ types, of which every device needs int8; {"int8": {"native": [8, 8, 8], "macs": 512}} in a file"""
    wanted = 'like {"int8": {"native": [8, 8, 8], "macs": 512}}'
    _require(isinstance(read, dict) and "int8" in read, where, "types", wanted, read)
    found = {}
    for dtype, value in read.items():
        whole = isinstance(value, dict) and set(value) == {"native", "macs"} and isinstance(value["native"], list)
        sizes = [*value["native"], value["macs"]] if whole else []
        fine = dtype in BYTES and len(sizes) == 4 and all(type(size) is int and size > 0 for size in sizes)
        _require(fine, where, f"types.{dtype}", wanted, value)
        found[dtype] = Multiply(tuple(value["native"]), value["macs"])
    return found


def _require(holds: bool, where: str, key: str, wanted: str, got: object) -> None:
    if not holds:
        raise UsageError(f"{where}: {key} must be {wanted}; got {got!r}")


def as_json(device: Device) -> dict[str, Any]:
    """→ every field, as plain numbers, lists and dicts; `load` reads the same back from a file"""
    plain = asdict(device)
    plain["types"] = {
        dtype: {"native": list(one.native), "macs": one.macs} for dtype, one in sorted(device.types.items())
    }
    return plain
