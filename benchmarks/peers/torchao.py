"""torchao's PT2E flow for x86: INT8 linears, static or dynamic, through Inductor with frozen weights."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.export import Dim

from benchmarks.peers._models import Outputs
from benchmarks.peers.base import Batch, Engine, Run, Work
from benchmarks.peers.inductor import compiled


def pt2e(is_dynamic: bool) -> Callable[[Work], Run]:
    """export → prepare → calibrate on the batch → convert → compile"""

    def prepare(work: Work) -> Run:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=is_dynamic))
        inputs = tuple(work.batch.values())
        model = Outputs(copy.deepcopy(work.model), tuple(work.batch)).eval()
        free = (tuple({0: Dim.AUTO, 1: Dim.AUTO} for _ in inputs),) if work.dynamic else None
        with torch.no_grad():
            graph = torch.export.export(model, inputs, dynamic_shapes=free).module()
            prepared = prepare_pt2e(graph, quantizer)
            prepared(*inputs)
            return compiled(convert_pt2e(prepared), work, by_position)

    return prepare


def by_position(call: Callable[..., Any]) -> Run:
    def run(batch: Batch) -> tuple[Any, ...]:
        with torch.no_grad():
            return tuple(call(*batch.values()))

    return run


ENGINES = (
    Engine("torchao PT2E static int8", "int8", ("torchao",), pt2e(is_dynamic=False)),
    Engine("torchao PT2E dynamic int8", "int8", ("torchao",), pt2e(is_dynamic=True)),
)
