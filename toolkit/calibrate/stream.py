"""One pass over calibration data, in a stream: the state is written now and then, and an earlier one gone on with."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from toolkit.calibrate.place import Place
from toolkit.calibrate.state import Batch, Counts, Seen, load, save
from toolkit.inputs import MASK

log = logging.getLogger(__name__)

Batches = Iterable[Batch]  # what a graph is called with, int64 [B, S] by name; iterable more than once
Progress = Callable[[int], None]  # told how many batches are done: as a pass begins, and after each

# Of the time that a pass takes, a 20th or so goes into writing its state, and a pass of seconds writes none. That of
# BERT-large is 2.3 GB, nearly all of it outer products: 10 s where a batch takes 59 s, so every 4 or 5 minutes. The
# embedded model's is 100 MB: 0.05 to 0.4 s every 10, 1.4% of the time.
SECONDS, SHARE = 10.0, 20
SPEED = 150e6  # bytes a second, until a write has shown how fast they are


def stream(seen: Seen, data: Batches, place: Place | None = None, progress: Progress | None = None) -> Counts:
    """Shows `seen` the batches that the file at `place` has not seen, and writes it: one that is lasting in the end
    too, or raises OSError; another is only of help to a run that is killed. → how much it has seen"""
    counts = Counts() if place is None else load(place, seen)
    writer = None if place is None else _Writer(place, seen, counts)
    tell = progress or _nobody
    tell(counts.batches)
    for batch in islice(data, counts.batches, None):
        seen.see(batch)
        counts.batches, counts.tokens = counts.batches + 1, counts.tokens + _real_tokens(batch)
        tell(counts.batches)
        if writer is not None:
            writer.now_and_then()
    if writer is not None:
        writer.finish()
    return counts


def _real_tokens(batch: Batch) -> int:
    mask = batch.get(MASK)
    return batch["input_ids"].numel() if mask is None else int(mask.count_nonzero())


def _nobody(done: int) -> None:
    """Is told."""


@dataclass(frozen=True)
class Told:
    """The batches of `data`, of which `progress` is told at every iteration, where others run the passes."""

    data: Batches
    progress: Progress

    def __iter__(self) -> Iterator[Batch]:
        self.progress(0)
        for number, batch in enumerate(self.data, 1):
            yield batch
            self.progress(number)


class _Writer:
    """Writes the state of a pass, where that is due."""

    def __init__(self, place: Place, seen: Seen, counts: Counts) -> None:
        self.place, self.seen, self.counts = place, seen, counts
        self.written, self.at = counts.batches, time.monotonic()
        self.took: float | None = None
        self.fails = False

    def now_and_then(self) -> None:
        since = time.monotonic() - self.at
        if not self.fails and since >= SECONDS and since >= SHARE * self._cost():
            self._write()

    def finish(self) -> None:
        if self.place.lasting and self.counts.batches > self.written:
            self._write()

    def _cost(self) -> float:
        """→ the seconds that a write takes"""
        if self.took is None:
            return sum(tensor.nbytes for tensor in self.seen.state().values()) / SPEED
        return self.took

    def _write(self) -> None:
        begun = time.monotonic()
        try:
            save(self.place, self.seen, self.counts)
        except OSError as error:
            if self.place.lasting:
                raise
            why = error.strerror or error
            log.warning("%s can't be written (%s): a calibration that is killed begins anew", self.place.path, why)
            self.fails = True
        self.written, self.at = self.counts.batches, time.monotonic()
        self.took = self.at - begun
