"""What stands for tensors and sizes while the calls of a module are noted down."""

from typing import Any, Protocol


class Notes(Protocol):
    """Where a Value notes down what it is given to."""

    def note(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


class Unfit(Exception):
    """What was to be noted down is more than calls of opswap's operators."""


class Unknown:
    """What is known at the call only. Whoever asks it for more than to be handed on is not noted down."""

    __hash__ = object.__hash__

    def _unfit(self, *_: Any) -> Any:
        raise Unfit("something is done with it")

    __getattr__ = __getitem__ = __iter__ = __len__ = __bool__ = __int__ = __index__ = __float__ = _unfit
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __abs__ = _unfit
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _unfit
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __pow__ = __and__ = __or__ = _unfit


class Size(Unknown):
    """Stands for one of the sizes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"${self.number}"


class Value(Unknown):
    """Stands for a tensor: opswap's operators take it."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = next(value for value in flat([args, list((kwargs or {}).values())]) if isinstance(value, Value))
        return first.notes.note(function, args, kwargs or {})


class Several:
    """Stands for an operator's result that is a list, as long as what is read of it."""

    def __init__(self, notes: Notes) -> None:
        self.notes, self.values = notes, list[Value]()

    def __getitem__(self, index: int) -> Value:
        if index < 0:
            raise Unfit("counted from the end")
        while len(self.values) <= index:
            self.values.append(Value(self.notes))
        return self.values[index]


def flat(values: Any) -> list[Any]:
    return [one for value in values for one in flat(value)] if isinstance(values, list | tuple | set) else [values]
