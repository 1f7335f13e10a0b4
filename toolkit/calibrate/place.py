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


def remove_beside(path: Path) -> None:
    """What a run that was killed while it wrote has left: as large as the file itself. Raises OSError."""
    if path.parent.exists():
        for left in path.parent.iterdir():
            if left != path:
                left.unlink(missing_ok=True)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > OLD  # of the last write: that renames a file in it
    except FileNotFoundError:  # another run has ended at this moment
        return False


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # nothing was written, or another run with the same data is done too
        return
    except OSError as error:
        log.warning("%s can't be removed (%s): it is of no use any more", folder, error.strerror or error)
