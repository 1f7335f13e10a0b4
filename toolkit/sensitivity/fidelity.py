"""How near one tensor is to another, over any number of batches, without keeping any of them."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Fidelity:
    """Sums over pairs (want, got), in float64: |want|², |want − got|², want·got, |got|²."""

    sums: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))

    def add(self, want: Tensor, got: Tensor) -> None:
        w, g = want.detach().double().flatten(), got.detach().double().flatten()
        self.sums += torch.stack([w @ w, (w - g).square().sum(), w @ g, g @ g])

    @property
    def noise(self) -> float:
        """|want − got|² / |want|²"""
        signal, noise = self.sums[:2].tolist()
        return noise / signal if signal else math.inf if noise else 0.0

    @property
    def sqnr_db(self) -> float:
        """10·log10(|want|² / |want − got|²), dB; infinite if equal"""
        return -10 * math.log10(self.noise) if self.noise else math.inf

    @property
    def cosine(self) -> float:
        """want·got / (|want|·|got|); 1 if both are zero, 0 if one is"""
        signal, _, dot, other = self.sums.tolist()
        if not signal or not other:
            return float(signal == other)
        return dot / math.sqrt(signal * other)


def real_outputs(output: Any, mask: Tensor) -> Tensor:
    """output: a model's, by name; mask int64 [B, S] → all its floats at real tokens (whole where it has no tokens)"""
    values = [value for value in output.values() if isinstance(value, Tensor) and value.is_floating_point()]
    return torch.cat([at_real(value, mask).flatten().float() for value in values])


def at_real(value: Tensor, mask: Tensor) -> Tensor:
    """value [B, S, ...] → [real tokens, ...]; any other shape as it is"""
    return value[mask.bool()] if value.shape[:2] == mask.shape else value
