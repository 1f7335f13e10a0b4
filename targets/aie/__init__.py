"""aie: the NPU of AMD Ryzen AI. Its int8 matrix product is emulated on the CPU, integer for integer.

The division of work is the NPU's: the host quantizes each row to signed int8, the array multiplies into int32, and the
host scales the result back to float. emulate.py has the array's integers, cycles.py its time, devices.py the NPUs.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import fx, nn

from operators import kernels
from targets._float import lower_float
from targets._fused import RowsLinear, RowsLinearAddNorm, RowsLinearGelu
from targets._gate import RowsLinearGate
from targets._hardware import cpu_name, pci_ids
from targets._linear import QuantizedLinear
from targets._native import Native
from targets._packed import FUSIONS
from targets._packed import MODULES as HOST
from targets._swap import swap_modules
from targets._tokens import in_few_steps, own_gelu
from targets.aie import settings
from targets.aie.linear import AieLinear, AieRowsLinear, AieRowsLinearAddNorm, AieRowsLinearGate, AieRowsLinearGelu
from targets.aie.native import PROVIDER, open_native
from targets.base import Execution, Recipe, Target

NPU_IDS = {"1022:1502": "XDNA (Phoenix, Hawk Point)", "1022:17f0": "XDNA2 (Strix, Krackan)"}
DEVICE_NODE = Path("/dev/accel/accel0")

# What is no linear layer is the host's, and runs as on customcpu.
MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    **HOST,
    QuantizedLinear: AieLinear,
    RowsLinear: AieRowsLinear,
    RowsLinearGelu: AieRowsLinearGelu,
    RowsLinearGate: AieRowsLinearGate,
    RowsLinearAddNorm: AieRowsLinearAddNorm,
}


def lower(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Each module that MODULES names → what it makes of it; the float head, tokens and GELU as on customcpu."""
    kernels.load()
    swap_modules(graph, MODULES)
    lower_float(graph, recipe)
    in_few_steps(graph)
    if "gelu" not in recipe.without:
        own_gelu(graph)


def missing() -> list[str]:
    """→ what a native run would need and this machine lacks, in words"""
    lacks = []
    if importlib.util.find_spec("onnxruntime") is None:
        lacks.append("onnxruntime is not installed")
    else:
        providers = importlib.import_module("onnxruntime").get_available_providers()
        if PROVIDER not in providers:
            lacks.append(f"onnxruntime has no {PROVIDER}")
    if not DEVICE_NODE.exists():
        lacks.append(f"no NPU device node {DEVICE_NODE}")
    if not pci_ids() & NPU_IDS.keys():
        lacks.append(f"no NPU on the PCI bus ({' or '.join(NPU_IDS)})")
    return lacks


def execution(precision: str) -> Execution:
    """Native where the provider and an NPU are here, else emulated, with what is missing as the reason."""
    lacks = missing()
    if not lacks:
        device = next((title for pci, title in NPU_IDS.items() if pci in pci_ids()), "an NPU")
        return Execution("aie", True, device, PROVIDER)
    return emulated(", ".join(lacks))


def emulated(reason: str) -> Execution:
    kernels.load()
    why = f"the NPU's int8 products are emulated on the CPU as on {settings.read()}: {reason}"
    return Execution("aie-emulated", False, cpu_name(), kernels.status().isa, why)


TARGET = Target(
    name="aie",
    precisions=("int",),
    lower=lower,
    execution=execution,
    fusions=frozenset(FUSIONS),
    native=Native(open_native, emulated),
)
