"""The cycle model against everything that was measured on the hardware."""

import pytest

from targets.aie import measured
from targets.aie.cycles import Gemm, Tile, cost, drain_cycles, feed_cycles, kernel_cycles
from targets.aie.devices import BUILT_IN, XDNA, XDNA2
from targets.aie.measured import POINTS, error, without

NAMES = [str(point) for point in POINTS]


@pytest.mark.parametrize("point", POINTS, ids=NAMES)
def test_within_a_tenth_of_each_point(point):
    assert abs(error(BUILT_IN[point.device], point)) < 0.10


def test_within_a_twentieth_on_average():
    errors = [abs(error(BUILT_IN[point.device], point)) for point in POINTS]
    assert sum(errors) / len(errors) < 0.05


@pytest.mark.parametrize("point", POINTS, ids=NAMES)
def test_predicts_what_it_was_not_fitted_to(point):
    assert abs(without(point)) < 0.10


def test_predicts_what_it_was_not_fitted_to_within_a_twentieth_on_average():
    errors = [abs(without(point)) for point in POINTS]
    assert sum(errors) / len(errors) < 0.05


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_devices_hold_what_fits_best(name):
    fitted, device = measured.fit(POINTS)[name], BUILT_IN[name]
    assert (device.sum_cycles, device.sum_byte_cycles) == pytest.approx(
        (fitted.sum_cycles, fitted.sum_byte_cycles), abs=1e-4
    )
    assert device.stretch == pytest.approx(fitted.stretch, abs=1e-3)
    assert device.read == device.write == pytest.approx(fitted.read, rel=2e-3)


def test_every_row_of_the_paper_is_there():
    assert len({(point.device, point.gemm.dtype, point.gemm.out) for point in POINTS}) == 7
    assert sum(point.tops is None for point in POINTS) == 8 and len(POINTS) == 15


def test_traffic_is_the_papers_equations():
    """A: M·K·N·ty/(n·columns), B: M·K·N·ty/(m·rows), C: M·N·ty"""
    for point in POINTS:
        if point.tops is None:
            continue
        gemm, tile, device = point.gemm, point.tile, BUILT_IN[point.device]
        made, size = cost(device, gemm, tile), 2 if gemm.dtype == "bf16" else 1
        a, b = gemm.macs * size // (tile.n * device.columns), gemm.macs * size // (tile.m * device.rows)
        assert (made.read, made.written) == (a + b, gemm.m * gemm.n * {"int8": 1, "int32": 4}.get(gemm.out, 2))
        assert made.padded == (gemm.m, gemm.k, gemm.n) and made.waste == 0


def test_padding_is_paid_for():
    tile = Tile(96, 64, 64)
    whole, more = (cost(XDNA2, Gemm(*sizes), tile, dispatch=0.0) for sizes in ((384, 1024, 1024), (385, 1025, 1025)))
    assert more.padded == (768, 1088, 1536) and more.waste == pytest.approx(1 - 385 * 1025**2 / (768 * 1088 * 1536))
    assert more.compute == pytest.approx(whole.compute * 2 * 1.5 * 17 / 16, rel=0.02)
    assert more.tops < whole.tops / 2


def test_time_is_the_longer_of_two_the_edges_and_the_dispatch():
    made = cost(XDNA, Gemm(384, 1024, 4096), Tile(96, 120, 64))
    assert made.array == max(made.compute, made.memory) + made.edges and made.edges > 0
    assert made.seconds == made.array + XDNA.dispatch
    assert cost(XDNA, made.gemm, made.tile, dispatch=0.0).seconds == made.array
    assert made.tops == pytest.approx(2 * 384 * 1024 * 4096 / made.seconds / 1e12)


def test_says_what_bounds_it():
    assert cost(XDNA, Gemm(4160, 4224, 4224), Tile(80, 88, 96)).bound == "compute"
    assert cost(XDNA, Gemm(4096, 4096, 4096), Tile(16, 112, 16)).bound == "memory"
    assert cost(XDNA, Gemm(64, 112, 64), Tile(16, 112, 16)).bound == "dispatch, memory"
    assert cost(XDNA, Gemm(320, 704, 384), Tile(80, 88, 96)).bound == "dispatch, compute"


def test_a_thin_tile_waits_for_its_stream():
    thin = Tile(16, 64, 96)
    assert feed_cycles(XDNA2, thin) == 64 * 96 / 4 > kernel_cycles(XDNA2, thin, "int32")
    made = cost(XDNA2, Gemm(64, 64, 768), thin)
    assert made.compute == pytest.approx((64 * 96 / 4 + drain_cycles(XDNA2, thin, "int32")) / XDNA2.clock)
