"""What a saved graph is called with ↔ JSON; folders of earlier versions say nothing of a cache, and have none."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from toolkit.checkpoint.shapes import dtype_name, dtype_of
from toolkit.inputs import Inputs, Past


def to_json(inputs: Inputs) -> dict[str, Any]:
    past = [{**asdict(one), "dtype": dtype_name(one.dtype)} for one in inputs.past]
    return {**asdict(inputs), "past": past}


def from_json(given: Mapping[str, Any]) -> Inputs:
    """Raises KeyError, TypeError or CheckpointError for what `to_json` did not make."""
    past = tuple(Past(**{**one, "dtype": dtype_of(one["dtype"])}) for one in given.get("past", ()))
    return Inputs(tuple(given["names"]), tuple(given["ignored"]), given["longest"], past)
