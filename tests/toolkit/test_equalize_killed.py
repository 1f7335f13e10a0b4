"""The passes before and after smoothing, killed and gone on with: the same to the bit, and nothing left behind."""

import pytest
import torch

from tests.toolkit.killing import BATCHES, RECIPES, Kill, Killed, assert_same, kill, made, model_and_data, whole
from toolkit.calibrate import stream
from toolkit.integers import find_rounding
from toolkit.pipeline import captured
from toolkit.sensitivity import Variants

pytestmark = pytest.mark.usefixtures("few_rows")
PASSES = [("dynamic", 1), ("dynamic", 2), ("static", 1), ("static", 2), ("static", 3)]


@pytest.mark.parametrize("after", [1, 3, BATCHES])
@pytest.mark.parametrize(("scheme", "number"), PASSES)
def test_killed_and_gone_on(scheme, number, after, tmp_path, seen, always):
    """The kill comes before the state with the last batch is written."""
    expected = whole(scheme)
    kill(tmp_path, scheme, number, after)
    seen.clear()
    progress = Kill()
    assert_same(made(scheme, folder=tmp_path, progress=progress), expected)
    passes = 2 if scheme == "dynamic" else 3
    first = [BATCHES] * (number - 1) + [after - 1] + [0] * (passes - number)  # batch of each pass
    assert progress.told == [list(range(start, BATCHES + 1)) for start in first]
    assert len(seen) == sum(BATCHES - start for start in first[:2])
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["calibration"] * (passes - 2)


def test_killed_again_and_again(tmp_path, seen, always):
    expected = whole("dynamic")
    for number, after in ((1, 2), (1, 3), (2, 1), (2, 4)):
        kill(tmp_path, "dynamic", number, after)
    seen.clear()
    assert_same(made(folder=tmp_path), expected)
    assert len(seen) == 1


def test_rounding_that_is_left_with_a_model_goes_on_too(tmp_path, seen, always):
    model, batches = model_and_data()

    def found(folder=None, progress=None):
        return find_rounding(captured(model, "int"), RECIPES["dynamic"], batches, {}, folder, progress).linears

    expected = found()
    with pytest.raises(Killed):
        found(tmp_path, Kill(1, 3))
    seen.clear()
    again = found(tmp_path)
    assert len(seen) == BATCHES - 2 and again.keys() == expected.keys() and len(again) == 12
    for key, one in expected.items():
        for part in ("weight", "scale", "shift"):
            assert torch.equal(getattr(again[key], part), getattr(one, part))
    assert not list(tmp_path.iterdir())


def test_what_sensitivity_learns_goes_on_too(tmp_path, seen, always):
    model, batches = model_and_data()

    def variants(progress=None):
        graph = captured(model, "int")
        return Variants.of(graph, RECIPES["dynamic"], "cpu", "bf16", batches, tmp_path, progress)

    with pytest.raises(Killed):
        variants(Kill(2, 3))
    seen.clear()
    assert len(variants().prepared.equalized.moments) == 12 and len(seen) == BATCHES - 2
    assert not list(tmp_path.iterdir())


def test_passes_that_others_run_are_told_of():
    told: list[int] = []
    data = model_and_data()[1]
    for _ in range(2):
        assert len(list(stream.Told(data, told.append))) == BATCHES
    assert told == [*range(BATCHES + 1)] * 2
