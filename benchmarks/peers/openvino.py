"""OpenVINO: float32, bfloat16, and INT8 by NNCF's static quantization with bfloat16 or float32 around it.

At its best with one stream (the latency hint) and, where every call has one shape, with that shape compiled in.
"""

import copy
from typing import Any

from benchmarks.peers._models import Outputs
from benchmarks.peers.base import Batch, Engine, Run, Work


def convert(work: Work) -> Any:
    """The float model in OpenVINO's form; its inputs have the batch's shape, or [any, any]."""
    import openvino

    names = tuple(work.batch)
    model = Outputs(copy.deepcopy(work.model), names).eval()
    converted = openvino.convert_model(model, example_input=tuple(work.batch.values()))
    shape = [-1, -1] if work.dynamic else list(work.batch["input_ids"].shape)
    converted.reshape({port: shape for port in converted.inputs})
    return converted


def quantize(converted: Any, work: Work) -> Any:
    """Quantize/dequantize where NNCF's transformer preset puts them; calibrated on the batch, as speed is measured."""
    import nncf

    data = nncf.Dataset([tuple(work.batch.values())], lambda batch: [tensor.numpy() for tensor in batch])
    return nncf.quantize(converted, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=1)


def compiled(converted: Any, work: Work, floats: str) -> Run:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": work.threads,
        "INFERENCE_PRECISION_HINT": floats,
    }
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()

    def run(batch: Batch) -> tuple[Any, ...]:
        inputs = [openvino.Tensor(tensor.numpy(), shared_memory=True) for tensor in batch.values()]
        return tuple(request.infer(inputs, share_inputs=True, share_outputs=True).values())

    return run


def engine(name: str, precision: str, floats: str) -> Engine:
    def prepare(work: Work) -> Run:
        converted = convert(work)
        return compiled(quantize(converted, work) if precision == "int8" else converted, work, floats)

    packages = ("openvino", "nncf") if precision == "int8" else ("openvino",)
    return Engine(name, precision, packages, prepare)


ENGINES = (
    engine("OpenVINO fp32", "fp32", "f32"),
    engine("OpenVINO bf16", "bf16", "bf16"),
    engine("OpenVINO int8 NNCF", "int8", "f32"),
    engine("OpenVINO int8 NNCF, bf16 around", "int8", "bf16"),
)
