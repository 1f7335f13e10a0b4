"""What rounding shifts on average, taken out of the bias."""

from torch import Tensor

from toolkit.equalize.observe import Moments
from toolkit.equalize.rounded import How, rounded


def correction(weight: Tensor, near: Tensor, seen: Moments, how: How) -> Tensor:
    """weight float32 [N, K], near: what its integers stand for → W·E[x] − Ŵ·E[x̂], float32 [N], to be added to the bias

    E[x] is of all that was seen, E[x̂ − x] of the sampled rows (Nagel et al. 2019, section 4.2).
    In the scheme static too these are rounded by their own range, which clips none: what the calibrated levels clip is
    of a few tokens, and made up for on average it is laid on all the others (4 dB of the embedded model's logits).
    """
    mean = seen.mean()
    low = mean + (rounded(seen.rows, how) - seen.rows).mean(0)
    return weight @ mean - near @ low
