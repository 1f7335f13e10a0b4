"""Memory for keys and values that grow in place, where a copy each time would cost more than the attention."""

import threading

import torch
from torch import Tensor


class Room:
    """Memory for a cache that is a few tokens longer at every call. What was returned earlier never changes, and a
    cache that is continued twice is copied; who writes to one writes to all that were returned, which share memory. It
    holds the last cache, with room for twice its tokens, until the next call.

    unit: what the tokens that there is room for are a multiple of. cleared: zeros are where no token is yet, for who
    reads those places too, which might hold NaN. made: how often it was other memory than before.
    """

    def __init__(self, unit: int = 64, cleared: bool = False) -> None:
        self.unit, self.cleared = unit, cleared
        self.lock = threading.Lock()
        self.kept: tuple[Tensor, Tensor] | None = None  # [B, shared, C, d] each, C tokens at the most
        self.used = self.made = 0

    def __reduce__(self) -> tuple[type["Room"], tuple[int, bool]]:
        return Room, (self.unit, self.cleared)  # copies begin empty

    def extend(self, keys: Tensor, values: Tensor, new: int) -> tuple[Tensor, Tensor]:
        """keys, values [B, shared, P, d] → [B, shared, C, d] each with these in front and room for `new` more: the
        memory they are in already, if they are what was last written to it"""
        with self.lock:
            past = keys.shape[2]
            if self.kept is None or not self._continues(keys, values, new):
                self.kept = self._copied(keys, past + new), self._copied(values, past + new)
                self.made += 1
            self.used = past + new
            return self.kept

    def _continues(self, keys: Tensor, values: Tensor, new: int) -> bool:
        kept: tuple[Tensor, Tensor] = self.kept  # type: ignore[assignment]
        past = keys.shape[2]
        same = all(_begins(whole, part) for whole, part in zip(kept, (keys, values), strict=True))
        frozen = kept[0].is_inference() and not torch.is_inference_mode_enabled()
        return same and past == self.used and past + new <= kept[0].shape[2] and not frozen

    def _copied(self, part: Tensor, tokens: int) -> Tensor:
        batch, heads, past, size = part.shape
        room = -(-2 * tokens // self.unit) * self.unit
        whole = part.new_empty(batch, heads, room, size)
        whole[:, :, :past] = part
        if self.cleared:
            whole[:, :, past:] = 0
        return whole


def _begins(whole: Tensor, part: Tensor) -> bool:
    """Whether `part` is the first tokens of `whole`, in its memory"""
    where = part.data_ptr() == whole.data_ptr() and part.dtype == whole.dtype
    return where and part.stride() == whole.stride() and part.shape[:2] == whole.shape[:2]
