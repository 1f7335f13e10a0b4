"""ONNX Runtime on the files that `export` writes: our integers in its kernels, without its transformer optimizer.

On the CPU, and on its other providers where the package that brings one is installed.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.peers._models import outputs_of
from benchmarks.peers.base import Batch, Engine, Run, Work

PROVIDERS = {"CUDA": "onnxruntime-gpu", "OpenVINO": "onnxruntime-openvino"}  # name → the package that brings it


def ours(scheme: str, provider: str = "CPU") -> Callable[[Work], Run]:
    """quantize by `scheme` (static: calibrated on the batch, as speed is measured) → ONNX → session on `provider`"""

    def prepare(work: Work) -> Run:
        from toolkit import Recipe
        from toolkit.export import onnx_file
        from toolkit.onnx_session import open_session
        from toolkit.pipeline import quantized

        static = scheme == "static"
        graph = quantized(work.model, Recipe(precision="int", scheme=scheme), [work.batch] if static else None)
        path = work.folder / f"{scheme}.onnx"
        onnx_file.write(graph, path, {})
        model = open_session(path, provider, threads=work.threads)
        if model.nodes and not model.nodes.get(model.provider):
            raise RuntimeError(f"{model.provider} was given none of the nodes: {model.nodes}")

        def run(batch: Batch) -> tuple[Any, ...]:
            return tuple(outputs_of(model(**batch)).values())

        return run

    return prepare


PACKAGES = ("onnxruntime", "onnx", "onnxscript")
ENGINES = (
    Engine("ONNX Runtime, our dynamic file", "int8", PACKAGES, ours("dynamic")),
    Engine("ONNX Runtime, our static Q/DQ file", "int8", PACKAGES, ours("static")),
    *(
        Engine(f"ONNX Runtime {name}, our static Q/DQ file", "int8", (package, *PACKAGES[1:]), ours("static", name))
        for name, package in PROVIDERS.items()
    ),
)
