"""Operators one after the other as one: what each by itself gives, and one line for a text that says something else."""

import pytest
import torch
from torch import Tensor

from operators import calls, kernels
from operators.calls import line_of
from tests.checks import assert_equal_bits, assert_refuses
from tests.operators.arguments import ARGUMENTS
from tests.operators.samples import linear, ops

kernels.load()
CPU = torch._C.DispatchKey.CPU
SERVED = [
    name
    for name in ARGUMENTS
    if name != "calls"
    and getattr(ops, name).default.has_kernel_for_dispatch_key(CPU)
    and not getattr(ops, name).default._schema.is_mutable
]
MASK = torch.tensor([[1, 1, 0], [1, 0, 1]])
TABLE = torch.randn(9, 8)
GAMMA, BETA = torch.rand(8), torch.rand(8)
LAYER = linear(2, 8)
IDS = torch.tensor([[3, 4, 0], [8, 0, 5]])
TEXT = """25
pack_tokens 0 0 -> 9 10
take_tokens [1,2] 9 -> [11,12]
embed_norm 11 3 12 3 - - 4 5 1e-05 1 0 0.0 128 0 - - 0 0 -> 13 14 15 16
linear_int8_rows 14 15 16 6 7 8 - -> 17
drop 11 12 14
unpack_columns 17 9 $0 $1 -> [19,20]
unpack_tokens 13 9 $0 3 -> 21
return [20,21,19]"""
INPUTS = [MASK, IDS, torch.ones(2, 3, dtype=torch.int64)]
CONSTANTS = [TABLE, GAMMA, BETA, LAYER.packed, LAYER.weight_sum, LAYER.weight_scale]


def one_after_the_other() -> list[Tensor]:
    tokens, _ = ops.pack_tokens(MASK, False)
    ids, ones = ops.take_tokens(INPUTS[1:], tokens)
    y, *rows = ops.embed_norm(ids, TABLE, ones, TABLE, None, None, GAMMA, BETA, 1e-5, True, False)
    z = ops.linear_int8_rows(*rows, *CONSTANTS[3:], None)
    start, end = ops.unpack_columns(z, tokens, 2, 3)
    return [end, ops.unpack_tokens(y, tokens, 2, 3), start]


@pytest.mark.parametrize("run", [calls.calls, ops.calls], ids=["reference", "kernel"])
def test_equals_its_operators_one_after_the_other(run) -> None:
    for got, wanted in zip(run(INPUTS, [2, 3], CONSTANTS, TEXT), one_after_the_other(), strict=True):
        assert_equal_bits(got, wanted)


def test_lists_and_words_come_as_they_were_written() -> None:
    """Floats to the last bit, with none of them cut."""
    x, weight = torch.randn(4, 6), torch.randn(3, 6)
    packed = ops.pack_weight_float(weight, False)
    line = line_of(ops.linear_float.default, [0, 1, None, 3, "gelu_tanh"], [2])
    assert line == "linear_float 0 1 - 3 gelu_tanh -> 2"
    (got,) = ops.calls([x], [], [packed], f"3\n{line}\nreturn [2]")
    assert_equal_bits(got, ops.linear_float(x, packed, None, 3, "gelu_tanh"))
    scale = 0.1 + 2e-17 + 1 / 3
    line = line_of(ops.quantize_per_token.default, [0, False, scale, 7, 16], [1, 2, 3])
    assert float(line.split(" ")[3]) == scale
    for run in (calls.calls, ops.calls):
        for got, wanted in zip(
            run([x], [], [], f"4\n{line}\nreturn [1,2,3]"), ops.quantize_per_token(x, False, scale, 7, 16), strict=True
        ):
            assert_equal_bits(got, wanted)


def noted(name: str, args: tuple) -> tuple[list[Tensor], str, int]:
    """→ the tensors among args, the text of one call, and how many tensors it gives"""
    operator = getattr(ops, name).default
    tensors: list[Tensor] = []

    def number(value):
        if isinstance(value, list | tuple):
            return [number(one) for one in value]
        if not isinstance(value, Tensor):
            return value
        tensors.append(value)
        return len(tensors) - 1

    rest = [argument.default_value for argument in operator._schema.arguments[len(args) :]]
    given = [number(value) for value in (*args, *rest)]
    made = operator(*args)
    sizes = [len(one) if isinstance(one, list) else None for one in (made if isinstance(made, tuple) else (made,))]
    results, count = [], len(tensors)
    for size in sizes:
        results.append(count if size is None else [*range(count, count + size)])
        count += 1 if size is None else size
    numbers = ",".join(map(str, range(len(tensors), count)))
    return tensors, f"{count}\n{line_of(operator, given, results)}\nreturn [{numbers}]", count - len(tensors)


@pytest.mark.parametrize("run", [calls.calls, ops.calls], ids=["reference", "kernel"])
@pytest.mark.parametrize("name", SERVED)
def test_every_operator_with_a_kernel_can_be_called(name: str, run) -> None:
    """With all that it takes: numbers, words, lists, what is left out, and what goes by name alone."""
    for args in ARGUMENTS[name]:
        tensors, text, count = noted(name, args)
        made = getattr(ops, name)(*args)
        parts = made if isinstance(made, tuple) else (made,)
        flat = [one for part in parts for one in (part if isinstance(part, list) else [part])]
        got = run(tensors, [], [], text)
        assert len(got) == len(flat) == count
        for one, wanted in zip(got, flat, strict=True):
            assert_equal_bits(one, wanted)


def test_an_operator_that_refuses_is_heard() -> None:
    text = "2\nquantize_per_token 0 0 0.0 128 0 -> 1 1 1\nreturn [1]"
    assert_refuses(ops.calls, "quantize_per_token", [torch.ones(2, 3, dtype=torch.int64)], [], [], text)


@pytest.mark.parametrize("run", [calls.calls, ops.calls], ids=["reference", "kernel"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0\nreturn [0]",
        "2000000\nreturn [0]",
        "2",
        "2\nreturn [1]",
        "2\nreturn [2]",
        "2\nreturn [-1]",
        "2\nreturn [0] [0]",
        "2\nreturn 0",
        "2\ndrop 0\nreturn [0]",
        "2\ndrop 5\nreturn [0]",
        "2\nsoftmax 0 -> 1\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 128 0 7 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 128 0 -> 1 2\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 128 0 -> 1 2 3 1\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 128 0 1 2 3 ->\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0x 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 $1 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 1.5 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token - 0 0.0 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 1 0 0.0 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 128 0 -> 1 2 4\nreturn [1]",
        "4\nquantize_per_token  0 0 0.0 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 2 0.0 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 +0.1 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 1_28 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 99999999999999999999999 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token ٠ 0 0.0 128 0 -> 1 2 3\nreturn [1]",
        "4\nquantize_per_token 0 0 0.0 128 0 -> 1 2 3\nreturn [1] ",
        "4\nquantize_per_token 0 0 0.0 128 0 -> 1 2 3\nreturn [1,]",
        "4\nquantize_per_token 0 0 0.0 128 0 -> 1 2 3\ndrop\nreturn [1]",
        "4\nattention_cached 0 0 0 0 0 1 0.5 0 -> 1\nreturn [1]",
    ],
)
def test_another_text_is_refused_in_one_line(text: str, run) -> None:
    assert_refuses(run, "calls", [torch.ones(2, 3)], [128], [], text)


def test_an_operator_that_has_no_kernel_is_not_named() -> None:
    weight = torch.ones(4, 4, dtype=torch.int8)
    assert_refuses(ops.calls, "calls", [weight], [], [], "2\npack_weight 0 -> 1\nreturn [1]")
