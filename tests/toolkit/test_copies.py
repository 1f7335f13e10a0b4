"""A deep copy of a transformed graph answers as that does, and nothing is shared; what can't be pickled says so."""

import copy
import io
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx

from targets._place import place
from tests import tiny
from tests.checks import assert_equal_bits
from tests.toolkit.test_cache import KINDS, by_cache, language_model
from toolkit import transform
from toolkit.cache import with_cache
from toolkit.capture import capture

GENERATING = {f"{kind}, generating": kind for kind in ("cpu fp", "customcpu int", "customcpu weight")}
Called = Callable[[fx.GraphModule], list[Tensor]]


def of_kind(kind: str) -> tuple[fx.GraphModule, Called]:
    """→ a graph, and what calls it"""
    target, recipe = KINDS[GENERATING.get(kind, kind)]
    if kind in GENERATING:
        return transform(with_cache(language_model()), recipe, target), by_cache
    model = tiny.build("bert")
    given = tiny.inputs(model, 2, 9)
    data = [given] if recipe.scheme == "static" else None
    return transform(model, recipe, target, data=data), lambda graph: list(graph(**given).values())


def memory(graph: fx.GraphModule) -> set[int]:
    return {held.data_ptr() for held in (*graph.parameters(), *graph.buffers())} - {0}


@pytest.mark.parametrize("kind", [*KINDS, *GENERATING])
def test_a_copy_is_the_same_and_by_itself(kind: str) -> None:
    graph, call = of_kind(kind)
    want = call(graph)
    other = copy.deepcopy(graph)
    for one in (other, copy.deepcopy(other), graph):
        for have, expected in zip(call(one), want, strict=True):
            assert_equal_bits(have, expected)
    assert memory(graph) and not memory(graph) & memory(other)


@pytest.mark.parametrize("cached", [False, True])
def test_a_placed_graph_s_copy_is_placed(cached: bool) -> None:
    """What runs there is made anew, once for each copy, of the copy's own modules."""
    graph, call = of_kind("cpu fp, generating" if cached else "cpu fp")
    want, made = call(graph), list[fx.GraphModule]()

    def wrap(moved: fx.GraphModule) -> Callable[..., object]:
        made.append(moved)
        return moved

    place(graph, torch.device("cpu"), wrap)
    graphs = [graph, copy.deepcopy(graph)]
    graphs.append(copy.deepcopy(graphs[1]))
    for one in graphs:
        for have, expected in zip(call(one), want, strict=True):
            assert_equal_bits(have, expected)
    assert len(made) == 3
    for one, runs in zip(graphs, made, strict=True):
        assert memory(one) >= memory(runs) > set() and one.meta == graph.meta
    assert not memory(graphs[0]) & memory(graphs[1]) and not memory(graphs[1]) & memory(graphs[2])


def test_a_copy_of_a_graph_on_another_device_runs_there() -> None:
    """On the meta device a call that stayed on the CPU would mix devices, and raise."""
    graph, _ = of_kind("cpu fp")
    place(graph, torch.device("meta"))
    other = copy.deepcopy(graph)
    assert other.meta == graph.meta
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # the answer, to the CPU
        other(**tiny.inputs(tiny.build("bert"), 2, 9))


@pytest.mark.parametrize("kind", GENERATING)
def test_copies_in_threads(kind: str) -> None:
    """Each has its own room for keys and values."""
    graph, call = of_kind(kind)
    want, found = call(graph), dict[int, list[Tensor]]()
    graphs = [graph, copy.deepcopy(graph), copy.deepcopy(graph)]

    def run(number: int) -> None:
        for _ in range(3):
            found[number] = call(graphs[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(graphs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(len(graphs)):
        for have, expected in zip(found[number], want, strict=True):
            assert_equal_bits(have, expected)


@pytest.mark.parametrize("kind", ["cpu fp", "cpu int", "customcpu int", "customcpu int, generating", "aie int"])
@pytest.mark.parametrize("placed", [False, True])
def test_what_pickles_a_graph_is_told_what_to_do(kind: str, placed: bool) -> None:
    graph, call = of_kind(kind)
    if placed:
        place(graph, torch.device("cpu"))
    want = call(graph)
    for one in (graph, copy.deepcopy(graph)):
        for write in (pickle.dumps, lambda graph: torch.save(graph, io.BytesIO())):
            with pytest.raises(pickle.PicklingError, match="can't be pickled.*: save.*quantize --output.*transform"):
                write(one)
        for have, expected in zip(call(one), want, strict=True):
            assert_equal_bits(have, expected)


def test_a_captured_graph_is_not_pickled_either() -> None:
    with pytest.raises(pickle.PicklingError, match="^BertForQuestionAnswering is a graph"):
        pickle.dumps(capture(tiny.build("bert")))
