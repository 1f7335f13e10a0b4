"""How much memory a graph holds, and how much more the process needs while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # proc_pid_clear_refs(5): sets VmHWM to what is resident now


def bytes_of(model: nn.Module) -> int:
    """→ the bytes of all weights and buffers, each storage once"""
    tensors = [*model.parameters(), *model.buffers()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


@contextmanager
def added_memory() -> Iterator[dict[str, float | None]]:
    """→ {"run_adds_mb"} once the block is left: the most that the process held inside it, above what it held before,
    MB of 10⁶ bytes; None where the system does not say. What others left, and what is loaded once, is in both."""
    found: dict[str, float | None] = {"run_adds_mb": None}
    before = _peak() if _reset() else None
    yield found
    if before is not None:
        found["run_adds_mb"] = round((_peak() or before) - before, 1)


def _reset() -> bool:
    """Linux alone, and there not in every container."""
    if not STATUS.is_file():
        return False
    try:
        RESET.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _peak() -> float | None:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None
