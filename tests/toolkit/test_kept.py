"""PerSize gives the bits that its operators give, whatever happens to parameters, modes, threads and copies."""

import copy
import threading

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.checks import assert_equal_bits
from tests.toolkit.keeping import Counting, Noting, assert_right, some_weight, table
from toolkit.fuse import kept
from toolkit.fuse.kept import PerSize

aten = torch.ops.aten


@pytest.fixture
def weight() -> Tensor:
    return some_weight()


def test_each_size_is_computed_once(weight: Tensor) -> None:
    module = Counting()
    for length in (5, 9, 5, 5, 1, 9):
        assert_right(module, length, weight)
    assert module.computed == [5, 9, 1]


def test_more_sizes_than_are_kept(weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    module = Counting()
    for length in (5, 9, 5, 7, 9, 5):  # 5 was used after 9 when 7 came
        assert_right(module, length, weight)
    assert module.computed == [5, 9, 7, 9, 5] and len(module.kept) == 2


def test_no_more_memory_than_there_is_room_for(weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that a view holds on to counts, not what it shows; what is too large by itself drives nothing out."""
    monkeypatch.setattr(kept, "BYTES", 2 * (weight.nbytes + 8 * 8 * 3 * 4))
    module = Counting()
    for length in (8, 7, 8, 20, 8, 6):
        assert_right(module, length, weight)
        assert sum(one.size for one in module.kept) <= kept.BYTES
    assert module.computed == [8, 7, 20, 6] and [one.key[0] for one in module.kept] == [6, 8]
    first = module.kept[0]
    assert first.size == weight.nbytes + 6 * 6 * 3 * 4


def test_the_copy_of_a_parameter_counts_too(weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as large where only a small part of it is read, and each size has one."""
    monkeypatch.setattr(kept, "BYTES", 2 * (weight.nbytes + 3 * 4))
    module = Counting(lambda length, weight: (aten.sum.dim_IntList(aten.slice.Tensor(weight, 0, 0, length), [0]),))
    for length in (5, 6, 7):
        module([length], [weight])
    assert [one.size for one in module.kept] == [weight.nbytes + 3 * 4] * 2


def test_what_operators_go_by(weight: Tensor) -> None:
    """The default dtype, and autocast"""
    module = Counting(lambda length, weight: (aten.ones.default([length, 3]), aten.mm.default(weight, aten.t(weight))))
    plain = module([5], [weight])
    torch.set_default_dtype(torch.float64)
    try:
        assert module([5], [weight])[0].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert module([5], [weight])[1].dtype == torch.bfloat16
    for have, want in zip(module([5], [weight]), plain, strict=True):
        assert have is want


def test_other_threads_may_give_other_bits(weight: Tensor) -> None:
    """Where one of them ends, so do vectors, and what is left of them is computed by itself."""
    module, threads = Counting(), torch.get_num_threads()
    try:
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            assert_right(module, 5, weight)
    finally:
        torch.set_num_threads(threads)
    assert module.computed == [5, 5]


def test_who_traces_gets_the_operators(weight: Tensor) -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = PerSize(fx.symbolic_trace(table))
            self.register_buffer("weight", weight)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table([x.shape[0]], [self.weight])[0]

    module, x = Called(), torch.zeros(7, 7, 3)
    sizes = dict.fromkeys((0, 1), torch.export.Dim.AUTO)
    exported = torch.export.export(module, (x,), dynamic_shapes=(sizes,), strict=False)
    assert aten.embedding.default in [node.target for node in exported.graph.nodes]
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for length in (7, 4):
        want = table(length, weight)[0]
        assert_equal_bits(compiled(torch.zeros(length, length, 3)), want)
    assert_equal_bits(exported.module()(torch.zeros(4, 4, 3)), table(4, weight)[0])
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert module.table([3], [weight])[0].shape == (3, 3, 3)
    with Noting() as noting:
        module.table([3], [weight])
    assert aten.embedding.default in noting.called
    assert_equal_bits(torch.func.grad(lambda y: (module(y) * y).sum())(x), table(7, weight)[0])
    assert not module.table.kept
    assert_right(module.table, 7, weight)


def test_a_copy_has_nothing_of_it(weight: Tensor) -> None:
    module = Counting()
    assert_right(module, 5, weight)
    other = copy.deepcopy(module)
    assert module.kept and not other.kept and not module.state_dict()
    assert_right(other, 5, weight)
    assert other.kept[0].results[0].data_ptr() != module.kept[0].results[0].data_ptr()
    module.to(torch.float64)
    assert not module.kept and other.kept


def test_several_threads(weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    module, wrong = Counting(), list[int]()
    want = {length: table(length, weight) for length in range(1, 6)}

    def call(first: int) -> None:
        for number in range(300):
            length = 1 + (first + number) % 5
            found = module([length], [weight])
            if not all(map(torch.equal, found, want[length])):
                wrong.append(length)

    threads = [threading.Thread(target=call, args=(first,)) for first in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(module.kept) == 2
