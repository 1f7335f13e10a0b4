"""What the capture noted of every value (dtype, sizes, some of them symbols) ↔ JSON."""

import ast
import operator
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from toolkit.checkpoint.errors import CheckpointError

Size = int | torch.SymInt
ANY = 2  # a size that is no constant, as 0 and 1 are taken for
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}


def to_json(value: Any) -> Any:
    """A node's meta["val"]: tensor, size or a list of those → JSON; None for what no later stage asks for."""
    if isinstance(value, Tensor):
        return {
            "dtype": dtype_name(value.dtype),
            "device": str(value.device),
            "sizes": [_size(size) for size in value.shape],
        }
    if isinstance(value, int | torch.SymInt) and not isinstance(value, bool):
        return {"size": _size(value)}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None


def hints(values: list[Any]) -> dict[str, int]:
    """→ the symbols in the sizes of the tensors among `values`, with the sizes that they had at capture; those that had
    none there, as how many tokens are of a language (X-MOD) depends on values, are given one"""
    sizes = [size for value in values if isinstance(value, Tensor) for size in value.shape]
    found = [size for size in sizes if isinstance(size, torch.SymInt) and str(size).isidentifier()]
    return {str(size): int(cast(torch.SymInt, size).node.hint or ANY) for size in found}


def _size(size: Size) -> int | str:
    return str(size) if isinstance(size, torch.SymInt) else int(size)


class Values:
    """Makes the values anew: fake tensors, whose symbols stand for sizes as at capture."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        """symbols: as `hints` found them"""
        self.mode = FakeTensorMode(shape_env=ShapeEnv())
        self.made: dict[Any, Tensor] = {}
        sizes = _distinct(symbols.values())
        self.symbols: dict[str, Size] = {name: self._free(size) for name, size in zip(symbols, sizes, strict=True)}

    def _free(self, size: int) -> Size:
        """→ a symbol that stands for `size`; each of a tensor of its own: the product of all would be no size"""
        dynamic: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
        return self.mode.from_tensor(torch.empty(size, device="meta"), symbolic_context=dynamic).shape[0]

    def read(self, given: Any) -> Any:
        """JSON of `to_json` → the value. Raises CheckpointError."""
        if isinstance(given, list):
            return [self.read(item) for item in given]
        if given is None:
            return None
        if "size" in given:
            return self.size(given["size"])
        key = (given["dtype"], given["device"], *given["sizes"])
        if key not in self.made:  # nothing writes to them, and of hundreds of values few differ
            sizes = [self.size(size) for size in given["sizes"]]
            with self.mode:
                self.made[key] = torch.empty(sizes, dtype=dtype_of(given["dtype"]), device=given["device"])
        return self.made[key]

    def size(self, given: int | str) -> Size:
        """A number, or sums and products of numbers and symbols as text."""
        try:
            return given if isinstance(given, int) else self._evaluate(ast.parse(given, mode="eval").body)
        except (SyntaxError, RecursionError, MemoryError) as error:  # of the parser, which has a stack of its own
            raise CheckpointError(f"a size of the saved graph is {given!r:.40}: copy the folder again") from error

    def _evaluate(self, tree: ast.expr) -> Size:
        if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
            return tree.value
        if isinstance(tree, ast.Name) and tree.id in self.symbols:
            return self.symbols[tree.id]
        if isinstance(tree, ast.BinOp) and type(tree.op) in OPERATORS:
            return OPERATORS[type(tree.op)](self._evaluate(tree.left), self._evaluate(tree.right))
        raise CheckpointError(f"a size of the saved graph is {ast.unparse(tree)!r}: sums and products can be read")


def _distinct(sizes: Iterable[int]) -> list[int]:
    """Sizes of 2 and more, no two the same: equal ones would be taken for one symbol, 0 and 1 for constants."""
    found: list[int] = []
    for size in sizes:
        size = max(size, 2)
        while size in found:
            size += 1
        found.append(size)
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """torch.float32 → "float32" """
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """ "float32" → torch.float32. Raises CheckpointError for what is no dtype."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(f"the checkpoint names a dtype that does not exist: {name!r}; quantize the model again")
    return found
