"""What a captured graph can't be called with, and what can't be captured, in one line each."""

import copy
import sys
from functools import cache

import pytest
import torch
from torch import nn

from tests import tiny
from toolkit import CaptureError, UsageError, capture

IDS = torch.ones(2, 8, dtype=torch.int64)


@cache
def graph_of(name):
    return capture(tiny.build(name))


@pytest.mark.parametrize(
    "given, line",
    [
        ({}, "without input_ids"),
        ({"input_ids": IDS[0]}, r"must be \[batch, sequence\].*got \[8\]"),
        ({"input_ids": IDS[:0]}, r"neither of them 0; got \[0, 8\]"),
        ({"input_ids": IDS, "attention_mask": IDS[:1]}, r"shape of input_ids, \[2, 8\]; got \[1, 8\]"),
        ({"input_ids": IDS, "labels": IDS}, "got also labels"),
        ({"input_ids": IDS.repeat(1, 9)}, "at most 64 tokens have positions; got 72"),
    ],
    ids=["none", "flat", "empty", "mask", "unknown", "long"],
)
def test_bad_calls_get_one_line(given, line):
    with pytest.raises(UsageError, match=line) as caught:
        graph_of("bert")(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, longest", [("roberta", tiny.POSITIONS), ("gpt2", tiny.POSITIONS)])
def test_too_long_is_refused_by_the_positions_that_there_are(name, longest):
    given = tiny.inputs(tiny.build(name), 1, longest + 1)
    with pytest.raises(UsageError, match=f"at most {longest} tokens"):
        graph_of(name)(**given)


def test_a_copy_checks_its_calls_too():
    with pytest.raises(UsageError, match="without input_ids"):
        copy.deepcopy(graph_of("bert"))()


def test_a_model_without_input_ids_is_refused():
    with pytest.raises(UsageError, match="takes input_ids"):
        capture(nn.Linear(2, 2))


class Pinned(nn.Module):
    def forward(self, input_ids):
        return input_ids + torch.ones(2, 16)


class Branching(nn.Module):
    def forward(self, input_ids):
        return input_ids + 1 if input_ids.sum() > 0 else input_ids


@pytest.mark.parametrize("model", [Pinned(), Branching()], ids=["pinned", "branching"])
def test_what_cannot_be_captured_says_so(model):
    with pytest.raises(CaptureError, match=type(model).__name__) as caught:
        capture(model)
    assert "\n" not in str(caught.value)


def test_memory_that_runs_out_is_no_fault_of_the_model(monkeypatch):
    def starved(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(sys.modules["toolkit.capture"], "export", starved)
    with pytest.raises(CaptureError, match="memory ran out; free some, or compute on fewer threads") as caught:
        capture(tiny.build("bert"))
    assert "torch.export has to accept" not in str(caught.value)
