"""Captures of equal models, of which hundreds of tests make one each: torch.export.export takes most of their time.

What it makes depends on a model's modules, settings and shapes, not on the values of its weights. So within a process
each such structure is exported once, and the program gets the weights of the model that it is made for.
"""

import copy
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram, export

SETTINGS = (bool, int, float, str, tuple, list, type(None))
# attributes that say nothing more: tensors and modules are looked at by themselves, a folder's name changes nothing
APART = ("_parameters", "_buffers", "_modules", "config", "name_or_path", "_name_or_path")

_made: dict[str, ExportedProgram] = {}  # without weights
_kept: list[object] = []  # what the keys hold addresses of: nothing else may get them


def same_program(
    model: nn.Module, args: tuple[()], kwargs: dict[str, Tensor], dynamic_shapes: object, strict: bool
) -> ExportedProgram:
    """torch.export.export, once for each structure"""
    structure = (*_structure(model), _shapes(kwargs), dynamic_shapes, strict)
    key = sha256(repr(structure).encode()).hexdigest()
    if key not in _made:
        made = export(model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=strict)
        _made[key] = _with(made, dict.fromkeys(made.state_dict))
        _kept.append(structure)
    weights = model.state_dict(keep_vars=True)
    return _with(_made[key], {name: weights[name] for name in _made[key].state_dict})


def _with(program: ExportedProgram, weights: dict[str, Any]) -> ExportedProgram:
    """The program over other weights."""
    other = copy.copy(program)
    other._state_dict = weights
    return other


def _structure(model: nn.Module) -> Iterator[object]:
    """All that a forward can depend on, but for the values of weights."""
    config: Any = getattr(model, "config", None)
    yield sorted((key, str(value)) for key, value in vars(config).items() if key not in APART) if config else None
    weights = model.state_dict(keep_vars=True)
    tensors = {**dict(model.named_buffers(remove_duplicate=False)), **weights}
    first: dict[int, str] = {}
    yield _shapes(tensors), [first.setdefault(value.data_ptr(), name) for name, value in weights.items()]  # tied ones
    yield [_values(value) for name, value in tensors.items() if name not in weights]  # constants of the program
    for name, module in model.named_modules(remove_duplicate=False):
        yield name, type(module).__qualname__, _code(type(module).forward)
        for key, value in vars(module).items():
            if key not in APART:
                yield key, value if isinstance(value, SETTINGS) else _code(value)


def _shapes(tensors: dict[str, Tensor]) -> list[object]:
    return [(name, value.shape, value.stride(), value.dtype, value.device) for name, value in tensors.items()]


def _values(tensor: Tensor) -> bytes:
    return b"" if tensor.is_meta else tensor.detach().cpu().double().numpy().tobytes()


def _code(value: Any) -> object:
    """A function by its code and what it closes over, anything else by itself."""
    if not hasattr(value, "__code__"):
        return value
    return value.__code__, [cell.cell_contents for cell in value.__closure__ or ()]
