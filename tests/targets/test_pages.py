"""Weights of a file leave the process's memory once they are rounded or packed, and nothing else changes."""

import shutil
import threading
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import load
from operators import kernels
from targets import _pages
from targets._float import PackedFloatLinear, PackedWeightLinear
from targets._linear import Activation, QuantizedLinear
from targets._packed import PackedLinear
from targets._pages import IN_MEMORY, let_go, nobody_writes
from targets._weight import WeightLinear
from tests.checks import assert_equal_bits
from toolkit import Recipe
from toolkit.equalize.stored import FILE
from toolkit.pipeline import quantized
from toolkit.report import CALIBRATED

VALUES = torch.arange(64 * PAGESIZE, dtype=torch.float32)
LITTLE = 0.1  # the system maps some neighbours of what is read


def in_memory(tensor: Tensor) -> int:
    """→ how many bytes of the tensor's whole pages are in the process's memory"""
    return int(((_pages._flags(_pages._whole_pages(tensor)) & IN_MEMORY) > 0).sum()) * PAGESIZE


@pytest.fixture(autouse=True)
def alone() -> None:
    """As in a command; tests/conftest.py takes it back"""
    nobody_writes()


@pytest.fixture
def mapped(tmp_path: Path) -> Tensor:
    """VALUES, read from a file once"""
    save_file({"values": VALUES}, tmp_path / "values.safetensors")
    values = load_file(tmp_path / "values.safetensors")["values"]
    assert_equal_bits(values, VALUES)
    return values


def test_pages_of_a_file_leave_and_come_back(mapped: Tensor) -> None:
    here = in_memory(mapped)
    assert here >= mapped.nbytes - 2 * PAGESIZE
    assert let_go(mapped) == here
    assert in_memory(mapped) == 0
    assert_equal_bits(mapped, VALUES)


def test_what_another_thread_writes_first_is_not_lost(tmp_path: Path) -> None:
    """Unless somebody said that nobody writes: then one of four of these was, in the model itself."""
    nobody_writes(False)
    save_file({"values": VALUES}, tmp_path / "values.safetensors")
    for _ in range(50):
        values = load_file(tmp_path / "values.safetensors")["values"]
        assert_equal_bits(values, VALUES)
        begin = threading.Event()
        thread = threading.Thread(target=lambda values=values, begin=begin: begin.wait() and values.add_(1))
        thread.start()
        begin.set()
        assert let_go(values) == 0
        thread.join()
        assert_equal_bits(values, VALUES + 1)


def test_what_was_written_to_stays(mapped: Tensor) -> None:
    mapped[12345] = -1.0
    here = in_memory(mapped)
    assert let_go(mapped) == 0
    assert in_memory(mapped) == here
    assert mapped[12345] == -1.0


def test_pages_of_which_the_system_says_nothing_stay(mapped: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read may give less than what was asked for: what was written may be in the rest."""
    mapped[-PAGESIZE] = -1.0
    flags = _pages._flags
    monkeypatch.setattr(_pages, "_flags", lambda pages: flags(pages)[:10])
    assert let_go(mapped) == 0
    assert mapped[-PAGESIZE] == -1.0


@pytest.mark.parametrize(
    "tensor",
    [VALUES.clone(), VALUES.view(64, -1).t(), torch.empty(0), torch.empty(3, device="meta"), torch.ones(3)],
    ids=["of no file", "not contiguous", "empty", "on no device of ours", "less than a page"],
)
def test_memory_that_no_file_can_give_again_stays(tensor: Tensor) -> None:
    before = None if tensor.is_meta else tensor.clone()
    assert let_go(tensor) == 0
    if before is not None:
        assert_equal_bits(tensor, before)


def linears(model: nn.Module) -> list[Tensor]:
    return [m.weight for name, m in model.named_modules() if type(m) is nn.Linear and "qa_outputs" not in name]


@pytest.mark.parametrize("symmetric", [False, True], ids=["stored rounding", "rounded anew"])
def test_float_weights_leave_as_they_are_rounded(symmetric: bool, tmp_path: Path) -> None:
    embedded, tokenizer = load()
    embedded.save_pretrained(tmp_path)  # in float32, which the embedded model's file is not
    tokenizer.save_pretrained(tmp_path)
    shutil.copy(Path(embedded.name_or_path) / FILE, tmp_path)
    model, _ = load(str(tmp_path))
    graph = quantized(model, Recipe("int", symmetric=symmetric, compensate=not symmetric))
    assert bool(graph.meta[CALIBRATED]) is not symmetric
    weights = linears(model)
    assert sum(map(in_memory, weights)) < LITTLE * sum(weight.nbytes for weight in weights)


@pytest.mark.parametrize("made", [PackedLinear, PackedWeightLinear, PackedFloatLinear])
def test_weights_leave_as_they_are_packed(made: type[nn.Module], tmp_path: Path) -> None:
    kernels.load()
    linear = nn.Linear(1024, 1024)
    kind = {PackedLinear: QuantizedLinear, PackedWeightLinear: WeightLinear}.get(made)
    source: Any = linear if kind is None else kind.from_linear(linear, *([Activation(True)] * (made is PackedLinear)))
    save_file({"weight": source.weight.detach()}, tmp_path / "weight.safetensors")
    source.weight = type(source.weight)(load_file(tmp_path / "weight.safetensors")["weight"])
    made(source)
    assert in_memory(source.weight) == 0
