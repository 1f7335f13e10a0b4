"""The kernels for NVIDIA GPUs, in Triton: one file each, and one line each in KERNELS.

Rows are as everywhere (q [T, K], scale float32 [T], zero_point int32 [T]), but q is int8 here, and so is the zero
point's range: both are 128 less than the unsigned ones of `operators.reference`, and the differences are the same
integers. Rows of FP8 hold float8_e4m3fn, and their zero points are zeros. Floats between kernels are of any type.

Importing this needs the package triton. Where TRITON_INTERPRET=1 is set before that, the kernels run on CPU tensors
in Triton's interpreter, slowly and number for number.
"""

from operators.triton.embed import embed_norm
from operators.triton.fp8 import linear_fp8
from operators.triton.gate import gate, gate_rows
from operators.triton.int8 import linear_int8, linear_int8_levels, linear_int8_parts
from operators.triton.layer_norm import norm, norm_parts
from operators.triton.rotary import rotary
from operators.triton.rows import gelu_parts, quantize, scale_parts
from operators.triton.weight_only import linear_w8

# name → wrapper; tests, benchmarks and the compile check all read this one list
KERNELS = {
    "quantize": quantize,
    "scale_parts": scale_parts,
    "gelu_parts": gelu_parts,
    "gate": gate,
    "gate_rows": gate_rows,
    "norm": norm,
    "norm_parts": norm_parts,
    "embed_norm": embed_norm,
    "rotary": rotary,
    "linear_int8": linear_int8,
    "linear_int8_levels": linear_int8_levels,
    "linear_int8_parts": linear_int8_parts,
    "linear_fp8": linear_fp8,
    "linear_w8": linear_w8,
}
