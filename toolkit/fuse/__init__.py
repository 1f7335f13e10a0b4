"""The fused graph: passes between quantize and lower that any target may ask for, by name, in Target.fusions."""

from targets.base import Pass
from toolkit.fuse.attention import fuse_attention, fuse_attention_rows, fuse_heads
from toolkit.fuse.attention_steps import raise_attention
from toolkit.fuse.biased import fuse_biased
from toolkit.fuse.cached import fuse_cached
from toolkit.fuse.constants import fold_constants
from toolkit.fuse.disentangled import fuse_disentangled
from toolkit.fuse.embeddings import fuse_lookups
from toolkit.fuse.feed_forward import fuse_feed_forward
from toolkit.fuse.gate import fuse_gate, fuse_gate_rows
from toolkit.fuse.gelu_steps import raise_gelu
from toolkit.fuse.layers import fuse_layers
from toolkit.fuse.linears import fuse_gelu, share_quantize
from toolkit.fuse.norm_steps import raise_norm
from toolkit.fuse.norms import fuse_add_norm, fuse_norm
from toolkit.fuse.packing import drop_padding
from toolkit.fuse.per_size import keep_per_size
from toolkit.fuse.qkv import fuse_qkv
from toolkit.fuse.rotary import raise_rotary
from toolkit.fuse.rotation import fuse_rotation
from toolkit.fuse.rows import to_rows
from toolkit.fuse.thirds import split_thirds

FUSIONS: tuple[tuple[str, Pass], ...] = (
    ("gelu_steps", raise_gelu),
    ("norm_steps", raise_norm),
    ("attention_steps", raise_attention),
    ("thirds", split_thirds),
    ("rotation", fuse_rotation),
    ("constants", fold_constants),
    ("rotary", raise_rotary),
    ("attention", fuse_attention),
    ("heads", fuse_heads),
    ("biased", fuse_biased),
    ("cached", fuse_cached),
    ("disentangled", fuse_disentangled),
    ("qkv", fuse_qkv),
    ("gate", fuse_gate),
    ("rows", to_rows),
    ("packing", drop_padding),
    ("quantize", share_quantize),
    ("gelu", fuse_gelu),
    ("gate_rows", fuse_gate_rows),
    ("add_norm", fuse_add_norm),
    ("embeddings", fuse_norm),  # after add_norm: it takes the norms that are left
    ("lookups", fuse_lookups),
    ("attention_rows", fuse_attention_rows),
    ("feed_forward", fuse_feed_forward),
    ("layers", fuse_layers),
    ("per_size", keep_per_size),  # last: what it takes no other finds
)
AT_LOWERING = ("calls",)  # a target's own, when all else is done
NAMES = (*(name for name, _ in FUSIONS), *AT_LOWERING)

# Their GELU is off by up to 4e-5, which turns many levels where a tensor has one scale: graphs of other quantizers go
# without.
APPROXIMATE = frozenset({"gelu", "gate"})
