"""ONNX Runtime on the files that `export` writes: our integers in its kernels, without its transformer optimizer."""

from collections.abc import Callable
from typing import Any

from benchmarks.peers.base import Batch, Engine, Run, Work


def ours(scheme: str) -> Callable[[Work], Run]:
    """quantize by `scheme` (static: calibrated on the batch, as speed is measured) → ONNX → session"""

    def prepare(work: Work) -> Run:
        from toolkit import Recipe
        from toolkit.export import onnx_file
        from toolkit.onnx_session import open_session
        from toolkit.pipeline import quantized

        static = scheme == "static"
        graph = quantized(work.model, Recipe(precision="int", scheme=scheme), [work.batch] if static else None)
        path = work.folder / f"{scheme}.onnx"
        onnx_file.write(graph, path, {})
        model = open_session(path, threads=work.threads)

        def run(batch: Batch) -> tuple[Any, ...]:
            return tuple(model(**batch).values())

        return run

    return prepare


PACKAGES = ("onnxruntime", "onnx", "onnxscript")
ENGINES = (
    Engine("ONNX Runtime, our dynamic file", "int8", PACKAGES, ours("dynamic")),
    Engine("ONNX Runtime, our static Q/DQ file", "int8", PACKAGES, ours("static")),
)
