"""Neural Compressor's PyTorch side (neural_compressor.torch): prepare → calibrate → convert, or its autotune.

Its own settings: activations uint8 with a zero point, one range for a whole tensor; weights int8, by output channel
where static, with one scale where dynamic. autotune tries DYNAMIC or STATIC in turn until one's accuracy is within 1%
of float's; where none is, it takes the best.
"""

import copy
import logging
from typing import Any

from torch import fx

from toolkit.inputs import KEY
from toolkit.quantizers import Accuracy, Batches, How, calibrate, callable_as

PACKAGES = {"neural-compressor-pt": "3.10", "torchao": "0.18.0"}
STATIC: tuple[dict[str, Any], ...] = (
    {"act_sym": False, "act_algo": "minmax"},
    {"act_sym": False, "act_algo": "kl"},
    {"act_sym": True, "act_algo": "minmax"},
    {"act_sym": True, "act_algo": "kl"},
)
# symmetric activations are none of them: torchao 0.18's convert fails on those where they are dynamic
DYNAMIC: tuple[dict[str, Any], ...] = (
    {"act_sym": False, "w_granularity": "per_channel"},
    {"act_sym": False, "w_granularity": "per_tensor"},
)


def quantize(graph: fx.GraphModule, how: How, batches: Batches, accuracy: Accuracy | None = None) -> fx.GraphModule:
    """→ a Q/DQ graph, weights as floats that it quantizes itself; `graph` stays as it was

    With an accuracy, which is called with graphs that can be called as `graph` is: the best that autotune found.
    """
    from neural_compressor.torch import quantization as inc

    logging.getLogger("neural_compressor").setLevel(logging.ERROR)
    if accuracy is None:
        prepared = inc.prepare(_exported(graph), _config(inc, how))
        calibrate(prepared, batches)
        return inc.convert(prepared)
    choices = [_config(inc, how, **choice) for choice in (DYNAMIC if how.dynamic else STATIC)]
    return inc.autotune(
        _exported(graph),
        # as many trials as there are choices: where none reaches the goal, fewer would return none of them
        inc.TuningConfig(config_set=choices, max_trials=len(choices)),
        eval_fn=lambda candidate: float(accuracy(callable_as(candidate, graph, graph.meta[KEY]))),
        run_fn=lambda prepared: calibrate(prepared, batches),
    )


def _config(inc: Any, how: How, **choice: Any) -> Any:
    """→ the package's settings with `choice` in place of its own, but for the linears that stay in float"""
    kind = inc.DynamicQuantConfig if how.dynamic else inc.StaticQuantConfig
    config = kind(**choice)
    for name in how.floats:
        config.set_local(name, kind(w_dtype="fp32", act_dtype="fp32"))
    return config


def _exported(graph: fx.GraphModule) -> Any:
    """→ a copy with the two attributes by which the package knows an exported graph"""
    exported: Any = copy.deepcopy(graph)
    exported._exported, exported.dynamic_shapes = True, None
    return exported
