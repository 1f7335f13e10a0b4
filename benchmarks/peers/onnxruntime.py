"""ONNX Runtime: its transformer optimizer's float32 graph, and dynamic INT8 of that graph.

At its best with fused attention, which its optimizer finds in eager attention alone, and with threads that spin
during a call and stop after it, so that they do not slow the next engine.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import fx

from benchmarks.peers._models import Outputs, is_by_token, outputs_of
from benchmarks.peers.base import Batch, Engine, Run, Work


def export(work: Work) -> Path:
    """→ the file of the float model as ONNX; free sizes only where they are needed"""
    model: Any = copy.deepcopy(work.model)
    if not isinstance(model, fx.GraphModule):  # of a folder that only OpSwap reads; it says what it computes itself
        model.set_attn_implementation("eager")
    names, free = list(work.batch), None
    outputs = outputs_of(model(**work.batch))
    if work.dynamic:
        by_token = [*names, *(name for name, value in outputs.items() if is_by_token(name, value))]
        free = {name: {0: "batch", **({1: "sequence"} if name in by_token else {})} for name in (*names, *outputs)}
    path = work.folder / "model.onnx"
    inputs = tuple(work.batch.values())
    torch.onnx.export(
        Outputs(model, tuple(names)).eval(), inputs, str(path), dynamo=False, opset_version=17,
        input_names=names, output_names=list(outputs), dynamic_axes=free,
    )  # fmt: skip
    return path


def fused(work: Work) -> Path:
    """→ the file after the transformer optimizer. Raises RuntimeError when it fused no attention."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    config = work.model.config
    better = optimizer.optimize_model(
        str(export(work)), "bert", config.num_attention_heads, config.hidden_size, FusionOptions("bert"),
        opt_level=0,  # level 1 first rewrites what the fusions look for
    )  # fmt: skip
    found = better.get_fused_operator_statistics()
    if found.get("Attention", 0) < config.num_hidden_layers:
        raise RuntimeError(f"the optimizer fused {found.get('Attention', 0)} of {config.num_hidden_layers} attentions")
    path = work.folder / "fused.onnx"
    better.save_model_to_file(str(path), use_external_data_format=False)
    return path


def quantized(work: Work) -> Path:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = work.folder / "int8.onnx"
    quantize_dynamic(
        str(fused(work)), str(path), weight_type=QuantType.QInt8, per_channel=True, reduce_range=False,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )  # fmt: skip
    return path


def session(path: Path, work: Work) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {given.name for given in made.get_inputs()}

    def run(batch: Batch) -> tuple[Any, ...]:
        inputs = {name: tensor.numpy() for name, tensor in batch.items() if name in wanted}
        return tuple(made.run(None, inputs))

    return run


ENGINES = (
    Engine("ONNX Runtime fp32", "fp32", ("onnxruntime", "onnx"), lambda work: session(fused(work), work)),
    Engine("ONNX Runtime dynamic int8", "int8", ("onnxruntime", "onnx"), lambda work: session(quantized(work), work)),
)
