"""A model with outliers, its graph, and recipes, which tests of equalizing share."""

from benchmarks.outliers import plant
from tests import tiny
from toolkit import Recipe
from toolkit.capture import capture
from toolkit.pipeline import PASSES, run

INT = Recipe(precision="int")
OFF = {"smooth": False, "clip": False, "compensate": False, "correct_bias": False}


def planted(name):
    model = tiny.build(name)
    batches = [tiny.inputs(model, 3, 20, seed) for seed in range(4)]
    plant(model, batches[0], outliers=2)
    return model, batches


def captured(model):
    graph = capture(model)
    run(graph, PASSES)
    return graph
