"""Residual + LayerNorm + quantize, and embeddings before it, against PyTorch's and the reference's."""

import pytest
import torch
import torch.nn.functional as F

from operators import reference
from operators.triton import embed_norm, linear_int8_parts, norm, norm_parts
from operators.triton.layer_norm import Norm
from operators.triton.levels import Levels
from operators.triton.tiles import Tile
from tests.activations import ACTIVATIONS
from tests.checks import assert_equal_bits, assert_sqnr
from tests.cuda.samples import bad_rows, floats, random, same_levels, same_rows, signed, to, unsigned, weight

DB = 120


def how(n: int, device, levels=None, dtype=torch.float32) -> Norm:
    return Norm(random(n, seed=3).to(device), random(n, seed=4).to(device), 1e-5, dtype, levels)


def layer_norm(x, made: Norm):
    if made.rms:
        return F.rms_norm(x, x.shape[-1:], made.gamma.cpu(), made.eps) + made.beta.cpu()
    return F.layer_norm(x, x.shape[-1:], made.gamma.cpu(), made.beta.cpu(), made.eps)


@pytest.mark.parametrize("rms", [False, True], ids=["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (3, 384), (2, 1500), (0, 8)], ids=str)
def test_norm(device, shape, residual, rms):
    x, added, made = random(*shape) + 1, random(*shape, seed=2), how(shape[1], device)._replace(rms=rms)
    y, rows = norm(x.to(device), added.to(device) if residual else None, made)
    assert rows is None and y.shape == shape
    assert_sqnr(y.cpu(), layer_norm(x + added if residual else x, made), DB)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rows_are_those_of_the_floats_that_came_out(device, name):
    levels = ACTIVATIONS[name].levels()
    y, rows = norm(bad_rows(50).to(device), None, how(50, device, Levels.of(*levels)))
    same_rows(rows, reference.quantize_per_token(y.cpu(), *levels))
    assert y[1:4].isnan().all() and y[[0, 4, 7]].isfinite().all()


@pytest.mark.parametrize("rotation", [0, 16])
def test_rows_of_what_is_smoothed(device, rotation):
    smooth = random(50, seed=5), random(50, seed=6)
    levels = Levels.of(False, rotation=rotation)
    made = how(50, device, levels)._replace(smooth=tuple(part.to(device) for part in smooth))
    x = random(7, 50)
    y, rows = norm(x.to(device), None, made)
    assert_sqnr(y.cpu(), layer_norm(x, made), DB)
    want = reference.quantize_per_token(y.cpu() * smooth[0] + smooth[1], False, rotation=rotation)
    same_levels(rows[0], want[0])
    assert_sqnr(rows[1].cpu(), want[1], DB)
    table, ids = random(9, 50), torch.arange(9)
    both, rows = embed_norm([ids.to(device)] * 2, [table.to(device)] * 2, made)
    want = reference.quantize_per_token(both.cpu() * smooth[0] + smooth[1], False, rotation=rotation)
    same_levels(rows[0], want[0])


def test_halves_in_and_out(device):
    x, added, made = random(5, 40).half(), random(5, 40, seed=2).half(), how(40, device, dtype=torch.float16)
    y, _ = norm(x.to(device), added.to(device), made)
    assert y.dtype == torch.float16
    assert_sqnr(y.cpu().float(), layer_norm(x.float() + added.float(), made), 60)


@pytest.mark.parametrize("rms", [False, True], ids=["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize("rotation", [0, 16])
def test_on_the_sums_of_a_linear_layer(device, rotation, split, rms):
    rows, layer, added = reference.quantize_per_token(random(19, 150), False), weight(37, 150, True), random(19, 37)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer), Tile(16, 32, 32, split=split))
    made = how(37, device, Levels.of(False, rotation=rotation))._replace(rms=rms)
    y, out = norm_parts(parts, added.to(device), made)
    assert_sqnr(y.cpu(), layer_norm(floats(rows, layer) + added, made), DB)
    same_rows(out, reference.quantize_per_token(y.cpu(), False, rotation=rotation))


@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
def test_the_sum_in_the_place_of_the_norm(device, residual):
    """bit for bit, as it goes on to the next layer; the rows are those that come with the norm's floats"""
    x, added, made = bad_rows(50).half(), random(9, 50, seed=2), how(50, device, Levels.of(False))
    given = x.to(device), added.to(device) if residual else None
    total, rows = norm(*given, made._replace(keeps_sum=True))
    assert_equal_bits(total.cpu(), x.float() + added if residual else x.float())
    same_rows(rows, unsigned(norm(*given, made)[1]))


@pytest.mark.parametrize("split", [1, 3])
def test_the_sum_of_a_linear_layer_and_the_stream(device, split):
    rows, layer, added = reference.quantize_per_token(random(19, 150), False), weight(37, 150, True), random(19, 37)
    parts = linear_int8_parts(to(device, signed(rows)), to(device, layer), Tile(16, 32, 32, split=split))
    made = how(37, device, Levels.of(True))._replace(smooth=to(device, (random(37, seed=5), random(37, seed=6))))
    total, out = norm_parts(parts, added.to(device), made._replace(keeps_sum=True))
    assert_sqnr(total.cpu(), floats(rows, layer) + added, DB)
    same_rows(out, unsigned(norm_parts(parts, added.to(device), made)[1]))


def test_the_sum_alone_is_no_norm(device):
    with pytest.raises(ValueError, match="a sum must be kept beside rows"):
        norm(random(2, 8).to(device), None, how(8, device)._replace(keeps_sum=True))


@pytest.mark.parametrize("kind", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("rotation", [0, 32])
@pytest.mark.parametrize("count, rms", [(1, False), (2, False), (3, False), (2, True)])
def test_embeddings(device, count, rms, rotation, kind):
    tables = [random(9, 50, seed=seed) for seed in range(count)]
    ids = [torch.randint(0, 9, (13,), generator=torch.Generator().manual_seed(seed)).to(kind) for seed in range(count)]
    made = how(50, device, Levels.of(False, rotation=rotation))._replace(rms=rms)
    y, rows = embed_norm([part.to(device) for part in ids], [table.to(device) for table in tables], made)
    want = sum(table[places.long()] for places, table in zip(ids, tables, strict=True))
    assert_sqnr(y.cpu(), layer_norm(want, made), DB)
    same_rows(rows, reference.quantize_per_token(y.cpu(), False, rotation=rotation))
    total, same = embed_norm(to(device, tuple(ids)), to(device, tuple(tables)), made._replace(keeps_sum=True))
    assert_equal_bits(total.cpu(), want)
    same_rows(same, unsigned(rows))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_id_that_its_table_does_not_have_gives_nan(device, number):
    """It read what lies beside the table."""
    tables, made = [random(size, 50, seed=size) for size in (9, 3, 7)], how(50, device, Levels.of(False))
    ids = [torch.zeros(6, dtype=torch.int64) for _ in tables]
    good = embed_norm([part.to(device) for part in ids], [table.to(device) for table in tables], made)[0].cpu()
    ids[number][2], ids[number][5] = len(tables[number]), -1
    y, rows = embed_norm([part.to(device) for part in ids], [table.to(device) for table in tables], made)
    assert y.cpu()[[2, 5]].isnan().all() and rows[1].cpu()[[2, 5]].isnan().all()
    assert torch.equal(y.cpu()[[0, 1, 3, 4]], good[[0, 1, 3, 4]])


def test_embeddings_of_four_tables_are_refused(device):
    with pytest.raises(ValueError, match="one to three tables were wanted; got 4"):
        embed_norm([torch.zeros(1, dtype=torch.int64)] * 4, [torch.zeros(1, 4)] * 4, how(4, device))
