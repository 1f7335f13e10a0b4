"""Dynamic quantization by the range of a whole tensor, as other quantizers do it: one scale for all of its rows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from targets._linear import Rows


@dataclass(frozen=True)
class Whole:
    """How a tensor becomes bytes by its own range, padding included: levels low to high, as unsigned bytes.

    symmetric: around the middle; eps: the smallest scale.
    """

    symmetric: bool
    low: int
    high: int
    eps: float


class QuantizeWhole(nn.Module):
    """x float32 [..., K] → rows, the leading sizes as one, all with the same scale and zero point

    The numbers of choose_qparams and quantize_per_tensor in torch.ao.quantization's decomposed operators. A NaN or an
    infinity in x makes NaN of every row.
    """

    def __init__(self, how: Whole) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Rows:
        how, rows = self.how, x.reshape(-1, x.shape[-1])
        scale, zero = self.levels(rows)
        level = (rows * scale.reciprocal()).round().nan_to_num(0) + zero
        count = rows.shape[:1]
        q = level.clamp(how.low, how.high).to(torch.uint8)
        return q, scale.expand(count).contiguous(), zero.to(torch.int32).expand(count).contiguous()

    def levels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """→ scale and zero point, float32, of no dimensions"""
        how = self.how
        least, most = rows.amin().clamp(max=0), rows.amax().clamp(min=0)
        if how.symmetric:
            scale = torch.maximum(-least, most) / ((how.high - how.low) / 2)
            zero = torch.full_like(scale, 128)
        else:
            scale = (most - least) / float(how.high - how.low)
            zero = how.low - (least / scale.clamp(min=how.eps)).round()
        scale = torch.where(scale.isfinite(), scale.clamp(min=how.eps), torch.nan)
        return scale, zero.nan_to_num(how.low).clamp(how.low, how.high)

    def extra_repr(self) -> str:
        return str(self.how)
