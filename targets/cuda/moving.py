"""Weights and graphs to the device, without touching those of the model that they came from."""

import torch
from torch import Tensor, fx, nn


def moved(module: nn.Module, device: torch.device) -> nn.Module:
    """Puts copies of all weights on `device` in their modules' places; the tensors themselves stay where they are."""
    copies: dict[Tensor, Tensor] = {}

    def there(tensor: Tensor) -> Tensor:
        if tensor not in copies:
            copy = tensor.detach().to(device)
            copies[tensor] = nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy
        return copies[tensor]

    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = there(tensor)  # type: ignore[assignment]
    return module


def compute_on(graph: fx.GraphModule, device: torch.device) -> None:
    """node(x) → to_device_of(node(to_device(x)), x): inputs may be anywhere, and results return there

    What nodes make on a device that the capture noted, they make on `device`.
    """
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder" and node.users]
    for node in graph.graph.nodes:
        if node.kwargs.get("device") is not None:
            node.kwargs = {**node.kwargs, "device": device}
    for node in inputs:
        with graph.graph.inserting_after(node):
            there = graph.graph.call_function(to_device, (node, device))
        node.replace_all_uses_with(there, delete_user_cb=lambda user, there=there: user is not there)  # type: ignore
    output = graph.graph.output_node()
    with graph.graph.inserting_before(output):
        output.args = fx.node.map_arg(
            output.args, lambda node: graph.graph.call_function(to_device_of, (node, inputs[0]))
        )


def to_device(value: Tensor, device: torch.device) -> Tensor:
    return value.to(device, non_blocking=True)


def to_device_of(value: object, given: Tensor) -> object:
    """→ a tensor where `given` is; anything else as it is"""
    return value.to(given.device) if isinstance(value, Tensor) else value
