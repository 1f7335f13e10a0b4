"""What the fused graph is made of: a few modules that any target can run, and may swap for its own.

Each forward is the reference, in plain torch; those of attention are in targets/_attention.py,
of a gated feed-forward in targets/_gate.py.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators.fused import normalized
from targets._attention import Attention, AttentionRows, CachedAttention
from targets._gate import Gate, RowsLinearGate
from targets._linear import Activation, QuantizedLinear, Rows

COUNTED = "opswap_counted"  # in the meta of a graph: how often a target's lower itself applied a fusion, by its name

Smooth = tuple[Tensor, Tensor]  # scale, shift: both float32 [N]


class Quantize(nn.Module):
    """x float32 [..., K] → rows, the leading sizes as one"""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation, self.levels = activation, activation.levels()

    def forward(self, x: Tensor) -> Rows:
        return self.activation.quantize(x)

    def extra_repr(self) -> str:
        return str(self.activation)


class RowsLinear(nn.Module):
    """rows [T, K] → float32 [T, N]: a quantized linear on rows that are quantized already"""

    def __init__(self, linear: QuantizedLinear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, rows: Rows) -> Tensor:
        return self.linear.multiply(rows)


class RowsLinearGelu(nn.Module):
    """rows [T, K] → gelu(linear(rows)) as rows [T, N] by `activation`; the GELU by erf, or that by tanh"""

    def __init__(self, linear: QuantizedLinear, activation: Activation, by_tanh: bool = False) -> None:
        super().__init__()
        self.linear, self.activation, self.by_tanh = linear, activation, by_tanh
        self.levels = activation.levels()

    def forward(self, rows: Rows) -> Rows:
        y = F.gelu(self.linear.multiply(rows), approximate="tanh" if self.by_tanh else "none")
        return self.activation.quantize(y)

    def extra_repr(self) -> str:
        return f"{self.activation}, by_tanh={self.by_tanh}"


class NormRows(nn.Module):
    """x [T, N] → y = layer_norm(x) float32 [T, N], and with an `activation` (y, rows by that of y, or of
    y · smooth[0] + smooth[1]); with a residual [T, N] the norm is that of x + residual

    gamma, beta and both of smooth float32 [N]. keeps_sum: of y only the rows are given, and in its place what was
    normalized, x or x + residual. rms: RMSNorm, which does not subtract the mean, in the place of layer_norm.
    """

    gamma: Tensor
    beta: Tensor
    smooth_scale: Tensor | None
    smooth_shift: Tensor | None

    def __init__(
        self,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        activation: Activation | None,
        smooth: Smooth | None = None,
        keeps_sum: bool = False,
        rms: bool = False,
    ) -> None:
        super().__init__()
        self.eps, self.activation, self.keeps_sum, self.rms = eps, activation, keeps_sum, rms
        self.levels = (activation or Activation()).levels()
        self.register_buffer("gamma", gamma.detach())
        self.register_buffer("beta", beta.detach())
        for name, vector in zip(("smooth_scale", "smooth_shift"), smooth or (None, None), strict=True):
            self.register_buffer(name, None if vector is None else vector.detach())

    @property
    def smooth(self) -> Smooth | None:
        scale, shift = self.smooth_scale, self.smooth_shift
        return None if scale is None or shift is None else (scale, shift)

    def parts(self) -> tuple[Any, ...]:
        """→ what another one is made of"""
        return self.gamma, self.beta, self.eps, self.activation, self.smooth, self.keeps_sum, self.rms

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Rows]:
        total = x if residual is None else x + residual
        y = normalized(total, self.gamma, self.beta, self.eps, self.rms)
        if self.activation is None:
            return y
        read = y if self.smooth is None else torch.addcmul(self.smooth[1], y, self.smooth[0])
        return total if self.keeps_sum else y, self.activation.quantize(read)

    def extra_repr(self) -> str:
        more = ", smooth" * (self.smooth is not None) + ", keeps_sum" * self.keeps_sum + ", rms" * self.rms
        return f"{self.gamma.shape[0]}, eps={self.eps}, {self.activation}{more}"


class EmbedNorm(NormRows):
    """ids int64 or int32 [T] for each table → NormRows(the sum of what the tables hold there, from left to right)

    tables: two or three, float32 [V, N].
    """

    def __init__(self, tables: Sequence[Tensor], norm: NormRows) -> None:
        super().__init__(*norm.parts())
        for number, table in enumerate(tables):
            self.register_buffer(f"table{number}", table.detach())

    def tables(self) -> list[Tensor]:
        return [held for name, held in self._buffers.items() if name.startswith("table") and held is not None]

    def forward(self, *ids: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        found = [F.embedding(places, table) for places, table in zip(ids, self.tables(), strict=True)]
        return super().forward(sum(found[1:], found[0]))


class RowsLinearAddNorm(NormRows):
    """rows [T, K], residual float32 [T, N] → NormRows(linear(rows) + residual)"""

    def __init__(self, linear: QuantizedLinear, *norm: Any) -> None:
        """norm: what NormRows takes"""
        super().__init__(*norm)
        self.linear = linear

    def forward(self, rows: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        return super().forward(self.linear.multiply(rows) + residual)


class FeedForward(nn.Module):
    """rows, residual → y = second(wide(rows of first(rows, residual)), y of first): what a layer computes for each
    token by itself, between two attentions; y is what each gives beside its rows, where it keeps its sum that

    With an activation in `second` (y, its rows); with `then`, that reads them and alone does so, (y, then(rows)).
    """

    def __init__(
        self, first: RowsLinearAddNorm, wide: RowsLinearGelu, second: RowsLinearAddNorm, then: RowsLinear | None
    ) -> None:
        super().__init__()
        self.first, self.wide, self.second, self.then = first, wide, second, then

    def forward(self, rows: Rows, residual: Tensor) -> Tensor | tuple[Tensor, Rows] | tuple[Tensor, Tensor]:
        y, rows = self.first(rows, residual)
        made = self.second(self.wide(rows), y)
        return made if self.then is None else (made[0], self.then(made[1]))


class Layers(nn.Module):
    """qkv [T, 3H], residual [T, N], and the rest that attention takes → what the last FeedForward gives: by turns
    attention, and a FeedForward of its rows and what the one before gave, whose `then` makes the next qkv"""

    def __init__(self, attentions: Iterable[AttentionRows], feed_forwards: Iterable[FeedForward]) -> None:
        super().__init__()
        self.attentions, self.feed_forwards = nn.ModuleList(attentions), nn.ModuleList(feed_forwards)

    def forward(
        self, qkv: Tensor, residual: Tensor, *tokens: Tensor | None
    ) -> Tensor | tuple[Tensor, Rows] | tuple[Tensor, Tensor]:
        *before, last = zip(self.attentions, self.feed_forwards, strict=True)
        for attention, part in before:
            residual, qkv = part(attention(qkv, *tokens), residual)
        attention, part = last
        return part(attention(qkv, *tokens), residual)


FUSED = (
    Quantize,
    RowsLinear,
    RowsLinearGelu,
    Gate,
    RowsLinearGate,
    NormRows,
    EmbedNorm,
    RowsLinearAddNorm,
    FeedForward,
    Layers,
    Attention,
    AttentionRows,
    CachedAttention,
)
