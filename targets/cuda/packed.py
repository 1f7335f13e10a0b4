"""What a graph does with rows of real tokens, as one module; what comes before and after it stays on the CPU, or where
that calls modules too, is on the GPU."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from targets._place import move
from targets.cuda.attention import Plan
from targets.cuda.buckets import Replays

opswap, aten = torch.ops.opswap, torch.ops.aten
NAME = "packed"


def split_rows(gm: fx.GraphModule, plan: Plan, device: torch.device) -> torch.device:
    """index_select(ids, tokens) for each kind of ids, …, unpack_tokens(rows, tokens, B, S)
    → index_select, packed(ids of the real tokens, …, starts), unpack_tokens

    packed, a PackedRows, is the graph of what is between. → where the rest is to run: on the CPU, or on `device` where
    that calls modules too, as a head that reads the first position does. Where the graph keeps its padding, or what is
    between reads anything else, it is left as it is, to run on `device` as a whole.
    """
    exits = gm.graph.find_nodes(op="call_function", target=opswap.unpack_tokens.default)
    if not exits:
        return device
    packing: Any = exits[0].args[1].args[0]  # type: ignore[union-attr]
    tokens, starts = (_part(packing, number) for number in (0, 1))
    if tokens is None or starts is None:
        return device
    selects = gm.graph.find_nodes(op="call_function", target=aten.index_select.default)
    entries = [node for node in selects if node.args[2] is tokens]
    between = _between([node.args[0] for node in exits], {*entries, starts})
    elsewhere = set(gm.graph.find_nodes(op="call_module")) - between
    if any(node.op == "placeholder" for node in between):
        return device
    core = _copy(gm, [*entries, starts], between, [node.args[0] for node in exits])
    gm.add_submodule(NAME, PackedRows(core, plan, device))
    with gm.graph.inserting_before(min(exits)):
        call = gm.graph.call_module(NAME, (*entries, starts))
        parts = [gm.graph.call_function(operator.getitem, (call, number)) for number in range(len(exits))]
    for node, rows in zip(exits, parts, strict=True):
        node.replace_input_with(node.args[0], rows)  # type: ignore[arg-type]
    for node in sorted(between, reverse=True):
        if not node.users:
            gm.graph.erase_node(node)
    return device if elsewhere else torch.device("cpu")


def _part(packing: fx.Node, number: int) -> fx.Node | None:
    return next((user for user in packing.users if user.args == (packing, number)), None)


def _between(ends: list[Any], border: set[fx.Node]) -> set[fx.Node]:
    """→ all that `ends` are computed from, as far as the border"""
    found: set[fx.Node] = set()
    todo = list(ends)
    while todo:
        node = todo.pop()
        if node not in found and node not in border:
            found.add(node)
            todo += node.all_input_nodes
    return found


def _copy(gm: fx.GraphModule, inputs: list[fx.Node], between: set[fx.Node], ends: list[Any]) -> fx.GraphModule:
    graph = fx.Graph()
    made = {node: graph.placeholder(f"given_{number}") for number, node in enumerate(inputs)}
    for node in sorted(between):
        made[node] = graph.node_copy(node, lambda source: made[source])
    graph.output(tuple(made[node] for node in ends))
    return fx.GraphModule(gm, graph, class_name="Rows")


class PackedRows(nn.Module):
    """ids of the real tokens [T], …, starts int32 [B + 1] → a tuple of rows [T, C], on the device that they are on

    The work is done on `device`; on a GPU what comes often is captured and replayed (buckets.py).
    """

    def __init__(self, core: fx.GraphModule, plan: Plan, device: torch.device) -> None:
        super().__init__()
        move(core, device)
        self.held = (core,)  # in a tuple: its layers keep their names in the graph that calls this
        self.plan, self.device = plan, device
        self.replays: Replays | None = None

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        *ids, starts = given
        sequence = starts.diff()
        longest = int(sequence.max()) if len(sequence) else 0
        if self.device.type != "cuda":
            return self.run(list(given), longest)
        if self.replays is None:
            self.replays = Replays(self.run, self.device)
        return tuple(rows.to(starts.device) for rows in self.replays(ids, starts, longest))

    def run(self, given: list[Tensor], longest: int) -> tuple[Tensor, ...]:
        """given: on the device already; longest: at least the tokens of the longest sequence"""
        self.plan.longest = longest
        return self.held[0](*given)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "replays": None}  # a copy captures anew
