"""The arithmetic of OpSwap: a schema, a fake and a reference in Python for each operator; kernels in csrc/.

Importing this package defines `torch.ops.opswap.*`, which the Python reference serves. Nothing is compiled
until `kernels.load()` is called; then the compiled library answers for CPU tensors.
"""

from operators import (
    attention,
    attention_biased,
    attention_cached,
    attention_disentangled,
    calls,
    embedding,
    feed_forward,
    floating,
    fused,
    gate,
    gaudi,
    kernels,
    layers,
    packing,
    reference,
    rotary,
    terms,
    weight_only,
)
from operators.choice import attention_kernels, float_kernels
from operators.schema import OPERATORS
from operators.weights import quantize_weight, weight_sum

__all__ = [
    "OPERATORS",
    "attention",
    "attention_biased",
    "attention_cached",
    "attention_disentangled",
    "attention_kernels",
    "calls",
    "embedding",
    "feed_forward",
    "float_kernels",
    "floating",
    "fused",
    "gate",
    "gaudi",
    "kernels",
    "layers",
    "packing",
    "quantize_weight",
    "reference",
    "rotary",
    "terms",
    "weight_only",
    "weight_sum",
]
