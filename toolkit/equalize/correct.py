"""What rounding shifts on average, taken out of the bias."""

from torch import Tensor

from toolkit.equalize.observe import Moments
from toolkit.equalize.rounded import rounded
from toolkit.recipe import Recipe


def correction(weight: Tensor, q: Tensor, scale: Tensor, seen: Moments, recipe: Recipe) -> Tensor:
    """weight float32 [N, K], q int8 [N, K], scale float32 [N] → W·E[x] − Ŵ·E[x̂], float32 [N], to be added to the bias

    E[x] is of all that was seen, E[x̂ − x] of the sampled rows (Nagel et al. 2019, section 4.2).
    """
    mean = seen.mean()
    low = mean + (rounded(seen.rows, recipe) - seen.rows).mean(0)
    return weight @ mean - (q.float() * scale[:, None]) @ low
