"""A folder in the compressed-tensors layout, whoever wrote it → its int8 layers, and float weights for the model."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from targets._json import parse_json
from toolkit.checkpoint import layers, layout
from toolkit.checkpoint.errors import CheckpointError
from toolkit.checkpoint.floats import multiplied
from toolkit.checkpoint.saving import CONFIG, OWN
from toolkit.equalize.stored import FILE as ROUNDING


@dataclass(frozen=True)
class Foreign:
    """layers: the quantized ones by the names in the files; state: every float32 tensor of the model by its name, the
    quantized weights multiplied out."""

    layers: dict[str, nn.Module]
    state: dict[str, Tensor]


def read(place: Path) -> Foreign:
    """Raises CheckpointError for a folder that is damaged, or whose scheme can't be computed here."""
    try:
        config = parse_json((place / CONFIG).read_text("utf-8"))["quantization_config"]
        found = [path for path in sorted(place.glob("*.safetensors")) if path.name not in (OWN, ROUNDING)]
        files = [path for path in found if not path.name.startswith(".")]  # what a killed `replacing` has left
        for path in files:
            path.open("rb").close()  # of one that may not be read safetensors says that it is missing
        tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
    except PermissionError:
        raise
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(f"{place} is no whole compressed-tensors folder ({why}): copy it again") from error
    shifted = next((name for name in tensors if name.endswith(".weight_zero_point")), None)
    if shifted:
        raise CheckpointError(f"{place} holds {shifted}: int8 weights without zero points can be read")
    names = [name.removesuffix(".weight") for name, tensor in tensors.items() if tensor.dtype == torch.int8]
    names = [name for name in names if f"{name}.weight" in tensors]
    names += [name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")]
    if not names:
        raise CheckpointError(
            f"{place} has a quantization_config and no int8 weights: give the float model it came from"
        )
    kinds = layout.read(config, names)
    made = {name: layers.build(name, kinds[name], tensors) for name in names}
    floats = {name: tensor for name, tensor in tensors.items() if not name.endswith(layout.PARAMETERS)}
    floats |= {f"{name}.weight": multiplied(layer) for name, layer in made.items()}
    return Foreign(made, {name: tensor.float() for name, tensor in floats.items()})
