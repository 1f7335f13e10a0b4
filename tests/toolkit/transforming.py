"""Graphs for the targets, made once for tests that do not change them."""

from functools import cache

import torch

from tests import tiny
from toolkit import Recipe, transform

GATE_DB = 35.0  # int8 against float on these random models gives 38 to 50 dB

SCHEMES = {  # options of the recipe
    "dynamic": {},
    "dynamic symmetric": {"symmetric": True},
    "static": {"scheme": "static"},
    "static symmetric": {"scheme": "static", "symmetric": True, "ranges": "mse"},
}


@cache
def model_and_graph(name, target, **options):
    """→ a model, and its int graph for the target, static ones calibrated: for tests that change neither"""
    model = tiny.build(name)
    data = [tiny.inputs(model, 4, 30, seed) for seed in (5, 6)]
    return model, transform(model, Recipe("int", **options), target=target, data=data)


def same_bits(graphs, given):
    results = {target: graph(**given) for target, graph in graphs.items()}
    first = next(iter(results.values()))
    for target, result in results.items():
        assert type(result) is type(first)
        for name, value in first.items():
            assert torch.equal(result[name], value), (target, name)
