"""Attention: which kernel runs, forcing one, and the arguments that are refused."""

import pytest
import torch

from operators import attention as reference
from operators import attention_kernels
from tests.checks import assert_refuses
from tests.operators.samples import ops


def test_attention_follows_the_kernels_in_use(isa: str) -> None:
    wide, narrow = ("avx512bf16", "avx512"), ("avx2",)
    expected = {"amx": wide, "avx512vnni": wide, "avxvnni": narrow, "avx2": narrow, "portable": ("portable",)}[isa]
    assert attention_kernels.used() in expected
    assert attention_kernels.used() == next(k for k in attention_kernels.runnable() if k in expected)


def test_forcing_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'sse9'.*: there is no such kernel; name one of .*portable"):
        attention_kernels.use("sse9")


QKV, STARTS = torch.zeros(9, 24), torch.tensor([0, 4, 9], dtype=torch.int32)
KEEP = torch.ones(9, dtype=torch.bool)
BAD: dict[str, tuple] = {
    "double": (QKV.double(), STARTS, KEEP, 2, 0.5),
    "3 dimensions": (QKV[None], STARTS, KEEP, 2, 0.5),
    "no columns": (QKV[:, :0], STARTS, KEEP, 2, 0.5),
    "columns that do not divide": (QKV, STARTS, KEEP, 5, 0.5),
    "no heads": (QKV, STARTS, KEEP, 0, 0.5),
    "scale NaN": (QKV, STARTS, KEEP, 2, float("nan")),
    "long starts": (QKV, STARTS.long(), KEEP, 2, 0.5),
    "starts of 0 dimensions": (QKV, STARTS[0], KEEP, 2, 0.5),
    "no starts": (QKV, STARTS[:0], KEEP, 2, 0.5),
    "starts not at 0": (QKV, STARTS[1:], KEEP, 2, 0.5),
    "starts short of the end": (QKV, STARTS[:2], KEEP, 2, 0.5),
    "starts that fall": (QKV, torch.tensor([0, 6, 4, 9], dtype=torch.int32), KEEP, 2, 0.5),
    "keep of bytes": (QKV, STARTS, KEEP.to(torch.uint8), 2, 0.5),
    "keep too short": (QKV, STARTS, KEEP[1:], 2, 0.5),
}


@pytest.mark.parametrize("name", ["attention", "attention_int8"])
@pytest.mark.parametrize("through", ["kernels", "reference"])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, through: str, name: str) -> None:
    operator = getattr(ops if through == "kernels" else reference, name)
    assert_refuses(operator, name, *BAD[case], *([True] if name == "attention_int8" else []))
