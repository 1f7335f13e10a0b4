"""PerSize gives the bits that its operators give, whatever happens to parameters, modes, threads and copies."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from tests.checks import assert_equal_bits
from toolkit.fuse import kept
from toolkit.fuse.kept import PerSize

aten = torch.ops.aten


def table(length: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    """→ a look-up in weight [V, 3] by distance, and a view of the weight"""
    places = aten.arange.default(length)
    far = aten.abs.default(aten.sub.Tensor(aten.unsqueeze.default(places, 0), aten.unsqueeze.default(places, 1)))
    return aten.embedding.default(weight, far), aten.slice.Tensor(weight, 0, 0, length)


class Noting(TorchFunctionMode):
    """called: the operators that were called in it"""

    def __init__(self) -> None:
        super().__init__()
        self.called = set[object]()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.add(function)
        return function(*args, **(kwargs or {}))


class Counting(PerSize):
    """computed: the sizes that the operators were called with, in order"""

    def __init__(self, function: Callable[..., object] = table) -> None:
        super().__init__(fx.symbolic_trace(function))
        self.computed: list[int] = []
        self.made.register_forward_pre_hook(lambda _, args: self.computed.append(args[0]))


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def assert_right(module: PerSize, length: int, weight: Tensor) -> None:
    for have, want in zip(module([length], [weight]), table(length, weight), strict=True):
        assert_equal_bits(have, want)


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


def halve(weight: Tensor) -> None:
    weight.mul_(0.5)


def halve_data(weight: Tensor) -> None:
    """PyTorch counts no version of this one"""
    weight.data.mul_(0.5)


def halve_as_numpy(weight: Tensor) -> None:
    weight.numpy()[:] *= 0.5


def negate_zero(weight: Tensor) -> None:
    weight[0] = -weight[0]


def replace(weight: Tensor) -> None:
    weight.data = weight * 0.5


def to_bfloat16(weight: Tensor) -> None:
    weight.data = weight.to(torch.bfloat16)


@pytest.mark.parametrize("change", [halve, halve_data, halve_as_numpy, negate_zero, replace, to_bfloat16])
def test_a_changed_parameter_is_seen(change: Callable[[Tensor], None], weight: Tensor) -> None:
    weight[0] = 0
    module = Counting()
    assert_right(module, 5, weight)
    change(weight)
    assert_right(module, 5, weight)
    assert_right(module, 5, weight)
    assert module.computed == [5, 5] and len(module.kept) == len({one.key for one in module.kept})


def test_nan_is_itself(weight: Tensor) -> None:
    weight[0] = torch.nan
    module = Counting()
    for _ in range(2):
        assert_right(module, 5, weight)
    assert module.computed == [5]


def test_no_result_is_a_view_of_a_parameter(weight: Tensor) -> None:
    """The memory that a parameter had may be written to when it is no longer the parameter's."""
    module, before = Counting(), weight.clone()
    assert_right(module, 5, before)
    before.zero_()
    assert_right(module, 5, weight)


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_any_grad_mode_after_any_other(first: Callable[[], object], weight: Tensor) -> None:
    module, x = Counting(), torch.ones(5, 5, 3, requires_grad=True)
    with first():
        inside = module([5], [weight])[0]
    (x * module([5], [weight])[0]).sum().backward()  # saves it for x's gradient
    assert_equal_bits(x.grad, table(5, weight)[0])
    with torch.inference_mode():
        assert_right(module, 5, weight)
    assert module.computed == [5] and not inside.is_inference()


def test_parameters_of_inference_mode(weight: Tensor) -> None:
    with torch.inference_mode():
        inside = weight.clone()
        module = Counting()
        assert_right(module, 5, inside)
    x = torch.ones(5, 3, requires_grad=True)
    (x * module([5], [inside])[1]).sum().backward()
    assert_equal_bits(x.grad, weight[:5])


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_gradients_reach_a_parameter(first: Callable[[], object], weight: Tensor) -> None:
    module, trained = Counting(), nn.Parameter(weight)
    with first():
        assert_right(module, 5, trained)
    assert not any(held.requires_grad for held in module.kept[0].results)
    module([5], [trained])[1].sum().backward()
    assert_equal_bits(trained.grad[:5], torch.ones(5, 3))
    assert not trained.grad[5:].any()


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
