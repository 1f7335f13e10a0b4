import torch
from click.testing import CliRunner

from benchmarks.outliers import LEAST, MOST, main, plant
from tests import tiny


def test_planted_channels_are_as_large_as_they_should_be_after_every_norm():
    model = tiny.build("bert")
    batch = tiny.inputs(model, 4, 24)
    channels = plant(model, batch, outliers=3)
    sizes = []
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda _, args, y: sizes.append(y.flatten(0, -2).square().mean(0).sqrt()))
    with torch.no_grad():
        model(**batch)
    assert len(sizes) == 5 and len(channels) == 3
    for size in sizes:
        times = size[channels] / size.median()
        assert (times >= 0.9 * LEAST).all() and (times <= 1.1 * MOST).all()


def test_no_tokens_are_refused():
    done = CliRunner().invoke(main, ["--length", "0"])
    assert done.exit_code == 2 and "'--length': 0 is not in the range x>=1" in done.output
