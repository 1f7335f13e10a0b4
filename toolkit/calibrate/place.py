"""Where the state of a pass over calibration data lies, and how long."""

import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

OLD = 7 * 24 * 3600  # seconds after which nobody will go on with a run that was killed


@dataclass(frozen=True)
class Place:
    """The file of a pass. key: of all that it depends on; lasting: it stays, finished, for later runs, and is small.
    One that is not lies in a folder of its own, with whatever a kill leaves half written."""

    path: Path
    key: str
    lasting: bool


@dataclass(frozen=True)
class Scratch:
    """The states, in `folder`, of passes that nothing wants any more once the linears are rounded; without a folder
    none are written."""

    folder: Path | None = None
    places: list[Place] = field(default_factory=list)

    def place(self, kind: str, key: str) -> Place | None:
        """→ where the pass `key` leaves its state; other runs' of this kind are removed, if nobody will want them"""
        if self.folder is None:
            return None
        own = self.folder / f"{kind}-{key}"
        for other in self.folder.glob(f"{kind}-*/"):
            if other != own and _is_old(other):
                _remove(other)
        self.places.append(Place(own / "state.safetensors", key, lasting=False))
        return self.places[-1]

    def clear(self) -> None:
        for place in self.places:
            _remove(place.path.parent)
        self.places.clear()


def lasting(folder: Path, key: str) -> Place:
    """→ where the pass `key` is kept; what any such pass that was killed left half written is removed, once nobody can
    be writing it"""
    for half in folder.glob(".[0-9]*-calibration-*.safetensors"):  # as `replacing` names it
        if _is_old(half):
            _remove(half)
    return Place(folder / f"calibration-{key}.safetensors", key, lasting=True)


def remove_beside(path: Path) -> None:
    """What a run that was killed while it wrote has left: as large as the file itself."""
    if path.parent.exists():
        for left in path.parent.iterdir():
            if left != path:
                _remove(left)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > OLD  # of the last write: in a folder that renames a file
    except FileNotFoundError:  # another run has ended at this moment
        return False


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except FileNotFoundError:  # nothing was written, or another run with the same data is done too
        return
    except OSError as error:
        log.warning("%s can't be removed (%s): it is of no use any more", path, error.strerror or error)
