"""Where the state of a pass over calibration data lies, and how long."""

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from operators.own_folder import is_old, remove_left

log = logging.getLogger(__name__)


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
            if other != own and is_old(other):  # nobody will go on with it
                _remove(other)
        self.places.append(Place(own / "state.safetensors", key, lasting=False))
        return self.places[-1]

    def clear(self) -> None:
        for place in self.places:
            _remove(place.path.parent)
        self.places.clear()


def lasting(folder: Path, key: str) -> Place:
    """→ where the pass `key` is kept; what any such pass that was killed left half written is removed"""
    remove_left(folder, r"calibration-\w+\.safetensors")
    return Place(folder / f"calibration-{key}.safetensors", key, lasting=True)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except FileNotFoundError:  # nothing was written, or another run with the same data is done too
        return
    except OSError as error:
        log.warning("%s can't be removed (%s): it is of no use any more", path, error.strerror or error)
