"""How much memory a graph holds, and the most that the process held while it ran."""

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
def peak_memory() -> Iterator[dict[str, float | None]]:
    """→ {"peak_rss_mb"} once the block is left: the most that the whole process held inside it, MB of 10⁶ bytes;
    None where the system does not say"""
    found: dict[str, float | None] = {"peak_rss_mb": None}
    can = _reset()
    yield found
    if can:
        found["peak_rss_mb"] = _peak()


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
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None
