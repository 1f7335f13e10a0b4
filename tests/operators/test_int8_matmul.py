"""The accumulators of every kernel equal an int64 computation, at every remainder and at the extremes."""

import pytest
import torch

from operators import reference, weight_sum
from operators.validate import MAX_K, MAX_K_128
from tests.checks import assert_equal_bits
from tests.operators.samples import exact, integers, matmul, ops

ROWS = range(1, 14)
COLUMNS = (1, 2, 15, 16, 17, 31, 33, 48, 63, 64, 65, 79, 80, 81, 112, 127, 128, 129, 130)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 63, 64, 65, 66, 4096])
def test_remainders(isa: str, k: int) -> None:
    q, zero, weight = integers(ROWS[-1], COLUMNS[-1], k, seed=k)
    want = exact(q, zero, weight)
    for n in COLUMNS:
        packed, sums = ops.pack_weight(weight[:n]), weight_sum(weight[:n])
        for m in ROWS:
            have = ops.int8_matmul(q[:m], zero[:m], packed, sums)
            assert_equal_bits(have, want[:m, :n].contiguous(), f"{isa} M={m} N={n} K={k}")


def test_every_column_count(isa: str) -> None:
    q, zero, weight = integers(7, 130, 37)
    want = exact(q, zero, weight)
    for n in range(1, 131):
        assert_equal_bits(matmul(q, zero, weight[:n]), want[:, :n].contiguous(), f"{isa} N={n}")


def test_more_rows_than_one_task(isa: str) -> None:
    q, zero, weight = integers(101, 70, 66)
    assert_equal_bits(matmul(q, zero, weight), exact(q, zero, weight), isa)


@pytest.mark.parametrize("k, least", [(4, -127), (515, -127), (MAX_K, -127), (515, -128), (MAX_K_128, -128)])
@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_extremes(isa: str, k: int, least: int, zero_point: int) -> None:
    q = torch.stack([torch.full((k,), 255), torch.zeros(k), torch.arange(k) % 2 * 255]).to(torch.uint8)
    weight = torch.stack([torch.full((k,), 127), torch.full((k,), least), torch.arange(k) % 2 * 254 - 127])
    zero = torch.full((3,), zero_point, dtype=torch.int32)
    weight = weight.to(torch.int8)
    assert_equal_bits(matmul(q, zero, weight), exact(q, zero, weight), isa)


@pytest.mark.parametrize("m, n", [(0, 5), (3, 0), (0, 0)])
def test_empty(isa: str, m: int, n: int) -> None:
    assert matmul(*integers(m, n, 9)).shape == (m, n)


def test_threads_do_not_change_it(isa: str, threads: None) -> None:
    q, zero, weight = integers(150, 200, 260)
    torch.set_num_threads(1)
    one = matmul(q, zero, weight)
    torch.set_num_threads(2)
    assert_equal_bits(matmul(q, zero, weight), one, isa)


def test_strided_arguments(isa: str) -> None:
    q, zero, weight = integers(10, 66, 35)
    have = ops.int8_matmul(q.t().contiguous().t(), zero, ops.pack_weight(weight), weight_sum(weight))
    assert_equal_bits(have, exact(q, zero, weight), isa)


def test_the_reference_is_exact() -> None:
    q, zero, weight = integers(5, 70, 4097)
    have = reference.int8_matmul(q, zero, reference.pack_weight(weight), weight_sum(weight))
    assert_equal_bits(have, exact(q, zero, weight))
