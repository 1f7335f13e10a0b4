"""Is there a GPU that the kernels run on, and which; or are they to run in Triton's interpreter, on the CPU?"""

import importlib.util
import os

import torch

SWITCH = "TRITON_INTERPRET"  # Triton's own; it reads it when it is imported, which transformers does where it is found
OLDEST, OLDEST_FP8 = (8, 0), (8, 9)  # compute capability: Ampere; Ada, the first with FP8 units


def interpreted() -> bool:
    """Whether $TRITON_INTERPRET is 1"""
    return os.environ.get(SWITCH) == "1"


def device() -> torch.device:
    """→ where the graph's tensors live"""
    return torch.device("cpu") if interpreted() else torch.device("cuda", torch.cuda.current_device())


def capability() -> tuple[int, int]:
    return torch.cuda.get_device_capability()


def why_not() -> str | None:
    """→ None, or one line that says why nothing can run here"""
    triton = importlib.util.find_spec("triton")
    lacks = [] if triton else ["the package triton is not installed"]
    if not interpreted():
        if torch.version.hip:
            lacks.append("this PyTorch is made for ROCm")
        elif not torch.cuda.is_available():
            lacks.append("torch.cuda.is_available() is False")
        elif capability() < OLDEST:
            has = ".".join(map(str, capability()))
            lacks.append(f"{torch.cuda.get_device_name()} has compute capability {has}; 8.0 or newer is wanted")
        if lacks:
            return f"{', and '.join(lacks)}; {SWITCH}=1 runs the kernels on the CPU, very slowly"
    return lacks[0] if lacks else None
