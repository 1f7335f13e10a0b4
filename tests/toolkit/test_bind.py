"""The bound code of a lowered graph: the same calls of the same modules, without looking them up."""

import copy
import dis

import pytest
import torch

from tests import tiny
from toolkit import Recipe, transform


@pytest.fixture(scope="module")
def model():
    return tiny.build("bert")


@pytest.fixture
def graph(model):
    return transform(model, Recipe("int"), "customcpu")


def names_of_modules(graph):
    return {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}


def looked_up(graph):
    """→ the attributes that the code which runs asks for"""
    asks = ("LOAD_ATTR", "LOAD_METHOD")
    return {one.argval for one in dis.get_instructions(type(graph).forward) if one.opname in asks}


def test_no_module_is_looked_up(graph):
    last = {name.rsplit(".")[-1] for name in names_of_modules(graph)}
    assert not last & looked_up(graph)
    graph.recompile()
    assert last <= looked_up(graph)


def test_the_same_bits_as_with_look_ups(graph, model):
    inputs = tiny.inputs(model, 2, 9)
    bound = graph(**inputs)[0]
    graph.recompile()
    assert torch.equal(graph(**inputs)[0], bound)


def test_hooks_are_called(graph, model):
    called = []
    for name in names_of_modules(graph):
        graph.get_submodule(name).register_forward_hook(lambda module, given, made, name=name: called.append(name))
    graph(**tiny.inputs(model, 1, 5))
    assert set(called) == names_of_modules(graph)


def test_a_module_that_is_put_in_the_place_of_another_is_called(graph, model):
    class Loud(torch.nn.Module):
        def forward(self, *given):
            raise RuntimeError("called")

    for name in names_of_modules(graph):
        before = graph.get_submodule(name)
        graph.set_submodule(name, Loud())
        with pytest.raises(RuntimeError, match="called"):
            graph(**tiny.inputs(model, 1, 5))
        graph.set_submodule(name, before)


def test_a_copy_has_its_own_modules(graph, model):
    inputs = tiny.inputs(model, 2, 9)
    expected = graph(**inputs)[0]
    other = copy.deepcopy(graph)
    called = []
    for name in names_of_modules(graph):
        graph.get_submodule(name).register_forward_hook(lambda *_: called.append(1))
    assert torch.equal(other(**inputs)[0], expected)
    assert not called
