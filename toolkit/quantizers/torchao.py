"""torchao's PT2E flow with its quantizer for x86: prepare → calibrate → convert.

Its own settings: activations uint8 with a zero point, one range for a whole tensor (by histogram where static);
weights int8 by output channel.
"""

import copy

from torch import fx

from targets.base import UsageError
from toolkit.quantizers import Accuracy, Batches, How, calibrate

PACKAGES = {"torchao": "0.18.0"}


def quantize(graph: fx.GraphModule, how: How, batches: Batches, accuracy: Accuracy | None = None) -> fx.GraphModule:
    """→ a Q/DQ graph, weights folded to int8; `graph` stays as it was. Raises UsageError for an accuracy."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    if accuracy is not None:
        raise UsageError("quantizer torchao has no tuning by accuracy; only inc has; leave it out")
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=how.dynamic))
    for name in how.floats:
        quantizer.set_module_name_qconfig(name, None)
    prepared = prepare_pt2e(copy.deepcopy(graph), quantizer)
    calibrate(prepared, batches)
    return convert_pt2e(prepared, fold_quantize=True)
