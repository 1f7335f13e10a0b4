"""Gaudi's FP8 on bytes: every code, every tie, both ends of the range, and sums that are exact."""

from fractions import Fraction
from math import isfinite

import pytest
import torch

from operators.e4m3 import CHIPS, decode, encode
from tests.checks import assert_equal_bits
from tests.operators.e4m3_table import values

ops = torch.ops.opswap
ALL = torch.arange(256, dtype=torch.uint8)
NAN_CODE = 0x7F


def finite(chip: str) -> list[tuple[float, int]]:
    """Number and code, zero and above, in order"""
    return [(value, code) for code, value in enumerate(values(chip)[:128]) if isfinite(value)]


@pytest.mark.parametrize("chip, bias", [("gaudi2", b) for b in (3, 7, 11, 15)] + [("gaudi3", b) for b in (0, 7, 62)])
def test_every_code_is_the_number_in_the_table(chip: str, bias: int) -> None:
    expected = torch.tensor(values(chip), dtype=torch.float64) * 2.0 ** (7 - bias)
    assert_equal_bits(decode(ALL, CHIPS[chip], bias), expected.float(), f"{chip} {bias}")
    numbers = ~expected.isnan() & expected.isfinite()
    assert torch.equal(encode(expected[numbers].float(), CHIPS[chip], bias), ALL[numbers])


def test_gaudi3_has_the_codes_of_pytorchs_float8_e4m3fn() -> None:
    assert_equal_bits(decode(ALL, CHIPS["gaudi3"]), ALL.view(torch.float8_e4m3fn).float())
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 2, 20000)
    assert torch.equal(encode(x, CHIPS["gaudi3"]), x.to(torch.float8_e4m3fn).view(torch.uint8))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("sign", [1, -1])
def test_rounds_to_nearest_and_ties_to_the_even_mantissa(chip: str, sign: int) -> None:
    known = finite(chip)
    for (low, below), (high, above) in zip(known, known[1:], strict=False):
        middle = torch.tensor((low + high) / 2)
        even = below if below % 2 == 0 else above
        cases = [(middle, even), (torch.nextafter(middle, torch.tensor(0.0)), below)]
        cases.append((torch.nextafter(middle, torch.tensor(1e9)), above))
        for x, code in cases:
            assert int(encode(sign * x, CHIPS[chip])) == code + 128 * (sign < 0), (float(x), low, high)


@pytest.mark.parametrize("chip, largest", [("gaudi2", 240.0), ("gaudi3", 448.0)])
def test_saturates_and_keeps_nan_and_the_sign_of_zero(chip: str, largest: float) -> None:
    x = torch.tensor(
        [largest, largest * 1.0001, 1e30, torch.inf, -torch.inf, -1e30, torch.nan, 0.0, -0.0, 1e-30, -1e-45]
    )
    codes = encode(x, CHIPS[chip])
    back = decode(codes, CHIPS[chip])
    assert back[:6].tolist() == [largest] * 4 + [-largest] * 2
    assert back[6].isnan() and int(codes[6]) & NAN_CODE == NAN_CODE
    assert codes[7:].tolist() == [0, 128, 0, 128]


@pytest.mark.parametrize("chip, bias", [("gaudi2", 3), ("gaudi2", 15), ("gaudi3", 0), ("gaudi3", 40)])
def test_an_exponent_bias_is_a_scale_of_a_power_of_two(chip: str, bias: int) -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(1)) * torch.logspace(-6, 4, 4000)
    x = x * 2.0 ** (7 - bias)
    scaled, _ = ops.fp8_cast(x, torch.tensor(2.0 ** (bias - 7)), chip=chip)
    assert torch.equal(ops.fp8_cast(x, None, chip=chip, exponent_bias=bias)[0], scaled)


CARD = {  # as the SDK registers them
    "fp8_cast": "cast_to_fp8_v2(Tensor input, Tensor? scale=None, bool stochastic_rounding=False, bool is_amax=False, "
    "ScalarType? dtype=None) -> (Tensor, Tensor)",
    "fp8_gemm": "fp8_gemm_v2(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, "
    "Tensor? A_scale_inv, Tensor? B_scale_inv, Tensor? bias, bool accumulate) -> Tensor",
}


@pytest.mark.parametrize("name", CARD)
def test_the_arguments_are_the_cards_and_the_chip_comes_after_them(name: str) -> None:
    card, ours = torch._C.parse_schema(CARD[name]), getattr(ops, name).default._schema
    pairs = list(zip(ours.arguments, card.arguments, strict=False))
    assert [(have.name, str(have.type)) for have, _ in pairs] == [(a.name, str(a.type)) for a in card.arguments]
    assert all(have.default_value == want.default_value for have, want in pairs if want.has_default_value())
    assert ours.arguments[len(pairs)].name == "chip" and len(ours.returns) == len(card.returns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cast_by_row_and_the_largest(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, -3.0], [40.0, 0.5]]).to(dtype)
    codes, largest = ops.fp8_cast(x, torch.tensor([[2.0], [8.0]]), False, True, torch.float8_e4m3fn, "gaudi2")
    assert decode(codes, CHIPS["gaudi2"]).tolist() == [[2, -6], [240, 4]]
    assert largest.dtype == torch.float32 and float(largest) == 40
    assert float(ops.fp8_cast(x)[1]) == 0


def exact(a: torch.Tensor, b: torch.Tensor, chip: str) -> list[list[Fraction]]:
    """The products' sums in rational numbers, by the written table"""
    table = values(chip)
    rows = [[Fraction(table[code]) for code in row] for row in a.tolist()]
    columns = [[Fraction(table[code]) for code in column] for column in b.tolist()]
    return [[sum((x * y for x, y in zip(row, col, strict=True)), Fraction(0)) for col in columns] for row in rows]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("k", [1, 7, 64, 333])
def test_sums_are_exact(chip: str, k: int) -> None:
    """Codes of all sizes, so that float32 sums would lose the small ones"""
    generator = torch.Generator().manual_seed(k)
    codes = torch.tensor([code for code, value in enumerate(values(chip)) if isfinite(value)], dtype=torch.uint8)
    a = codes[torch.randint(len(codes), (3, k), generator=generator)]
    b = codes[torch.randint(len(codes), (5, k), generator=generator)]
    a[:, 0], b[:, 0] = 1, 1  # the smallest product there is
    found = ops.fp8_gemm(a, False, b, True, None, torch.float32, chip=chip)
    expected = torch.tensor([[float(total) for total in row] for row in exact(a, b, chip)], dtype=torch.float64)
    assert_equal_bits(found, expected.float())


def test_scales_bias_and_what_is_added_to() -> None:
    chip = CHIPS["gaudi2"]
    a, b = encode(torch.tensor([[1.0, 2], [3, 4]]), chip), encode(torch.tensor([[5.0, 6], [7, 8], [0, 1]]), chip)
    product = torch.tensor([[17.0, 23, 2], [39, 53, 4]])
    rows, columns = torch.tensor([[2.0], [0.5]]), torch.tensor([1.0, 4, 0.25])
    bias, onto = torch.tensor([1.0, 0, -1]), torch.ones(2, 3)
    want = product * rows * columns + bias + onto
    found = ops.fp8_gemm(a, False, b, True, onto, torch.float32, rows, columns, bias, True)
    assert_equal_bits(found, want)
    found = ops.fp8_gemm(a.t(), True, b.t(), False, None, torch.bfloat16, rows, torch.tensor(4.0), bias, False)
    assert_equal_bits(found, (product * rows * 4 + bias).bfloat16())
    assert_equal_bits(ops.fp8_gemm(a[None], False, b, True, onto, torch.float32), product[None])


def test_biases_move_the_product() -> None:
    codes = torch.tensor([[56, 60]], dtype=torch.uint8)  # 1 and 1.5 at the bias 7
    found = ops.fp8_gemm(codes, False, codes, True, None, torch.float32, chip="gaudi2", A_bias=3, B_bias=11)
    assert found.tolist() == [[3.25]]
    found = ops.fp8_gemm(codes, False, codes, True, None, torch.float32, chip="gaudi3", A_bias=6)
    assert found.tolist() == [[6.5]]
