"""For each operator what it may be called with."""

import torch

from operators.feed_forward import pack_layer
from tests.operators.layer_samples import INNER, SMOOTHED, layer_of
from tests.operators.samples import integers, linear, ops

LAYER, EMPTY = linear(70, 33), linear(0, 33)
X = torch.randn(2, 5, 33)
Q, ZERO, WEIGHT = integers(5, 70, 33)
MASK, TAKEN = torch.tensor([[1, 0], [1, 1]]), torch.tensor([0, 2, 3])

QKV, STARTS = torch.randn(7, 3 * 8), torch.tensor([0, 3, 3, 7], dtype=torch.int32)
ADDED = torch.randn(1, 2, 5, 5)
AT, WHICH = torch.randn(2, 4, 4), (torch.arange(25).view(5, 5) % 4).int()  # vectors of positions, and an index
KEEP = torch.tensor([1, 0, 1, 1, 1, 0, 1], dtype=torch.bool)

ROWS = (Q, torch.rand(5), ZERO)
NORM = (torch.rand(70), torch.rand(70), 1e-5)
SMOOTH = (torch.rand(70), torch.rand(70))
IDS, TABLE = torch.tensor([3, 0, 3, 10]), torch.randn(11, 70)
RESIDUAL = torch.randn(5, 70)
FIXED = (False, 0.1, 7, 16)
TWO_LEVELS = ([0.0, 0.1], [128, 7], 2)

PLAIN, INSIDE = (
    pack_layer(layer_of((33, 70, 70, 7), FIXED, True, then, way)) for then, way in ((False, SMOOTHED), (True, INNER))
)
HEAD = pack_layer(layer_of((8, 70, 70, 24), FIXED, True, True))
LAST = pack_layer(layer_of((8, 70, 70, 7), FIXED, False, False))

FP8, CODES = Q & 0x77, WEIGHT.view(torch.uint8)[:7] & 0x77  # none is an infinity or NaN

ARGUMENTS: dict[str, list[tuple]] = {
    "quantize_per_token": [(X, True), (X[0, 0], False), (X[:0], True), (X, False, 0.1, 7)],
    "pack_weight": [(WEIGHT,)],
    "int8_matmul": [(Q, ZERO, LAYER.packed, LAYER.weight_sum)],
    "linear_int8": [(X, *LAYER.args(), True), (X, *LAYER.args()[:3], None, False, 0.1, 7)],
    "linear_int8_rows": [(*ROWS, *LAYER.args()), (*ROWS, *LAYER.args()[:3], None)],
    "linear_int8_gelu": [(*ROWS, *LAYER.args(), True), (*ROWS, *LAYER.args()[:3], None, *FIXED, True)],
    "linear_int8_add_norm": [(*ROWS, *LAYER.args(), RESIDUAL, *NORM, quantize, *FIXED) for quantize in (True, False)],
    "feed_forward_int8": [(*ROWS, RESIDUAL, PLAIN, True, 0), (*ROWS, RESIDUAL, INSIDE, False, 7)],
    "layers_int8": [
        (QKV, torch.randn(7, 70), STARTS, KEEP, 2, 0.5, True, *TWO_LEVELS, False, causal, [HEAD, last], *ends)
        for causal, last, ends in ((False, LAST, (False, 0)), (True, HEAD, (False, 24)))
    ],
    "linear_int8_gate": [(*ROWS, *LAYER.args(), "gelu", False, True), (*ROWS, *LAYER.args(), "silu", True, *FIXED)],
    "gate_rows": [(RESIDUAL, "gelu_tanh", True, True), (RESIDUAL[:0], "silu", False, *FIXED)],
    "gate": [(RESIDUAL, "silu", False), (RESIDUAL[0].bfloat16(), "gelu", True), (RESIDUAL[None, :0], "gelu", True)],
    "gelu": [(RESIDUAL,), (RESIDUAL[0].bfloat16(), True), (RESIDUAL[None, :0], True)],
    "gelu_rows": [(RESIDUAL, True), (RESIDUAL[:0], False), (RESIDUAL, *FIXED, True)],
    "norm_rows": [
        (RESIDUAL, *NORM, quantize, *FIXED, *more)
        for quantize in (True, False)
        for more in ((), SMOOTH, (*SMOOTH, False, True))
    ],
    "embed_norm": [
        (IDS, TABLE, IDS, TABLE, IDS, TABLE, *NORM, True, True),
        (IDS, TABLE, None, None, None, None, *NORM, False, True),
        (IDS, TABLE, IDS.int(), TABLE, None, None, *NORM, True, *FIXED),
        (IDS, TABLE, IDS, TABLE, None, None, *NORM, True, *FIXED, *SMOOTH),
        (IDS, TABLE, IDS, TABLE, None, None, *NORM, True, *FIXED, None, None, True, True),
    ],
    "pack_tokens": [(MASK,), (MASK.bool(),), (0 * MASK,), (0 * MASK, True)],
    "take_tokens": [([MASK, MASK[:1]], TAKEN), ([MASK[1:]], TAKEN[:1]), ([], TAKEN)],
    "unpack_columns": [(X[0, :3], MASK.flatten().nonzero().flatten(), 2, 2), (X[0, :0], TAKEN[:0], 2, 2)],
    "unpack_tokens": [(X[0, :3], MASK.flatten().nonzero().flatten(), 2, 2)],
    "pack_weight_float": [(X[0], False), (X[0], True), (X[0].bfloat16(), True)],
    "linear_float": [
        (X, ops.pack_weight_float(RESIDUAL[:, :33], False), None, 5, "gelu"),
        (X.bfloat16(), ops.pack_weight_float(RESIDUAL[:, :33], True), torch.rand(5), 5, "none"),
    ],
    "pack_weight_w8": [(WEIGHT,)],
    "linear_w8": [
        (X, ops.pack_weight_w8(WEIGHT), LAYER.weight_scale, LAYER.bias, "gelu"),
        (X.bfloat16(), ops.pack_weight_w8(WEIGHT), LAYER.weight_scale, None, "none"),
    ],
    "rounding_error": [(X, True), (X[:0], False), (X, *FIXED)],
    "calls": [
        ([X], [7], [], "4\nquantize_per_token 0 0 0.1 $0 64 -> 1 2 3\ndrop 2\nreturn [1,3]"),
        ([MASK, TAKEN], [], [MASK], "4\ntake_tokens [0,2] 1 -> [3]\nreturn [3]"),
    ],
    "attention": [
        (QKV, STARTS, None, 2, 0.5),
        (QKV.bfloat16(), STARTS, KEEP, 4, 0.5, True, True),
        (QKV, STARTS, KEEP, 2, 0.5, False, False, ADDED),
    ],
    "attention_int8": [
        (QKV, STARTS, None, 2, 0.5, True),
        (QKV.bfloat16(), STARTS, KEEP, 4, 0.5, *FIXED, True, True),
        (QKV, STARTS, None, 2, 0.5, *FIXED, True, False, ADDED, torch.arange(len(QKV))),
    ],
    "attention_biased": [
        (QKV[:6], torch.randn(2, 2, 3, 3), 2, 0.5),
        (QKV[:6].bfloat16(), torch.randn(1, 1, 1, 6), 4, 0.5, True),
    ],
    "attention_disentangled": [
        (QKV, STARTS, KEEP, None, AT, WHICH, AT[:, 1:], WHICH % 3, 2, 0.5),
        (QKV.bfloat16(), STARTS, None, torch.arange(7), AT, WHICH, None, None, 2, 0.5, True),
        (QKV, STARTS, None, None, None, None, AT, WHICH, 2, 0.5),
    ],
    "rotary": [
        (QKV, torch.randn(7, 4), torch.randn(7, 4), 8, 2),
        (QKV.view(1, 7, 24).bfloat16(), torch.randn(1, 7, 4), torch.randn(1, 7, 4), 4, 3, True),
        (QKV, torch.randn(5, 4), torch.randn(5, 4), 8, 2, False, torch.arange(7)),
        (QKV, torch.randn(7, 4), torch.randn(7, 4), 8, 2, True, None, torch.rand(16), 1e-6),
    ],
    "attention_cached": [
        (QKV[:6], *torch.randn(2, 2, 2, 9, 4), 5, torch.ones(2, 8, dtype=torch.int64), 2, 0.5),
        (QKV[:1], *torch.randn(2, 1, 4, 3, 2).bfloat16(), 0, torch.ones(1, 1, dtype=torch.bool), 4, 0.5, True),
    ],
    "fp8_cast": [(X,), (X.bfloat16(), torch.rand(5, 1), False, True, None, "gaudi3", 0), (X[0, 0], torch.tensor(2.0))],
    "fp8_gemm": [
        (FP8, False, CODES, True, None, torch.float32),
        (
            FP8.t(),
            True,
            CODES.t(),
            False,
            torch.rand(5, 7),
            torch.bfloat16,
            torch.rand(5, 1),
            torch.rand(7),
            torch.rand(7),
            True,
            "gaudi3",
            3,
            9,
        ),
    ],
}
