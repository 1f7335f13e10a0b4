"""cuda's norms and embeddings: each one kernel."""

import torch
from torch import Tensor, nn

from operators.triton.embed import embed_norm
from operators.triton.layer_norm import Norm, norm
from targets._fused import EmbedNorm, NormRows
from targets._linear import Rows
from targets.cuda.linear import hold_norm, norm_of


class CudaNorm(nn.Module):
    """NormRows: x, residual [T, N] of any float types → y of `dtype`, or with an activation (y, rows of y); the sum
    in the place of y where that is kept"""

    gamma: Tensor
    beta: Tensor
    smooth_scale: Tensor | None
    smooth_shift: Tensor | None
    dtype = torch.float32

    def __init__(self, source: NormRows) -> None:
        super().__init__()
        hold_norm(self, source)

    def norm(self) -> Norm:
        return norm_of(self)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Rows]:
        y, rows = norm(x, residual, self.norm())
        return y if rows is None else (y, rows)


class CudaEmbedNorm(CudaNorm):
    """EmbedNorm: ids [T] for each table → y of `dtype`, or with an activation (y, rows of y); the sum in the place of y
    where that is kept"""

    def __init__(self, source: EmbedNorm) -> None:
        super().__init__(source)
        self.count = len(source.tables())
        for number, table in enumerate(source.tables()):
            self.register_buffer(f"table{number}", table)

    def forward(self, *ids: Tensor) -> Tensor | tuple[Tensor, Rows]:  # type: ignore[override]
        y, rows = embed_norm(ids, [self.get_buffer(f"table{number}") for number in range(self.count)], self.norm())
        return y if rows is None else (y, rows)
