"""--device: other devices of PyTorch's, which are missing here; the meta device shows where a graph would compute."""

import pytest
import torch

from commands.common import Options
from commands.device import require_device, to_device
from targets import _devices
from targets._place import move, place
from tests import tiny
from tests.checks import assert_equal_bits
from tests.cli import Cli
from toolkit import report_of, transform
from toolkit.capture import capture

MISSING = [name for name in _devices.KINDS if _devices.why_not(name)]


def test_doctor_names_them_all(cli: Cli) -> None:
    found = cli("--json", "doctor").json["devices"]
    assert set(found) == {"cuda", "xpu", "mps"}
    for entry in found.values():
        assert entry["available"] is (entry["reason"] is None) is (entry["device"] is not None)
    shown = cli("doctor").out
    for said in ("--device cuda (NVIDIA GPU by CUDA, AMD GPU by ROCm)", "--device xpu (Intel GPU)", "--device mps"):
        assert said in shown


@pytest.mark.parametrize("name", MISSING)
def test_a_device_that_is_missing_is_one_line(cli: Cli, name: str) -> None:
    for given in (name, f"{name}:1"):
        cli("--device", given, "ask", "--question", "Who?").fails_in_one_line(
            1, f"device {given} is not here: this PyTorch"
        )


@pytest.mark.parametrize("name", ["hpu", "privateuseone", "vulkan", "hip"])
def test_a_device_of_other_builds_of_pytorch_is_one_line(cli: Cli, name: str) -> None:
    """Of what PyTorch says the beginning: a list of all its backends came after it."""
    said = cli("--device", name, "ask", "--question", "Who?")
    said.fails_in_one_line(1, f"device {name} is not here: ", "; leave --device out")
    assert len(said.err) < 250, said.err


def test_the_cpu_is_a_device(cli: Cli) -> None:
    result = cli("--json", "--device", "cpu", "ask", "--question", "Who was the captain?")
    assert result.code == 0 and result.json["target"]["executed"] == "cpu"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ("--device", "nonsense", "ask", "--question", "Who?"),
            "unknown device 'nonsense'; choose cpu or one of: cuda, xpu, mps",
        ),
        (("--device", "meta", "ask", "--question", "Who?"), "the device meta computes nothing"),
        (
            ("--device", "xpu", "--target", "customcpu", "ask", "--question", "Who?"),
            "target customcpu has its own: leave it out",
        ),
        (("--device", "xpu", "bench"), "bench does not take --device"),
        (("--device", "xpu", "validate"), "--pair cpu@DEVICE:PRECISION"),
    ],
)
def test_what_cannot_be(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "") and said in result.err


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a GPU, at the place of which the meta device is"""
    monkeypatch.setattr(_devices, "require", lambda name: torch.device("meta"))
    monkeypatch.setattr(_devices, "label", lambda device: "a GPU")


def test_int_is_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    options = Options("cpu", "int", "dynamic", "m", False, None, False, device="cuda")
    with pytest.raises(Exception, match="on cuda give fp, bf16 or fp16"):
        require_device(options, "int")
    require_device(options, "bf16")


@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_every_constant_and_call_moves(name: str) -> None:
    """On the meta device a call that stayed on the CPU would mix devices, and raise."""
    model = tiny.build(name)
    graph = capture(model)
    assert move(graph, torch.device("meta")) >= 0
    devices = {argument for node in graph.graph.nodes for argument in node.kwargs.values()}
    assert torch.device("cpu") not in devices
    assert {tensor.device.type for tensor in (*graph.parameters(), *graph.buffers())} == {"meta"}
    given = {key: value.to("meta") for key, value in tiny.inputs(model, 2, 7).items()}
    assert graph(**given).start_logits.device.type == "meta"
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_placed_graph_answers_on_the_cpu() -> None:
    model = tiny.build("bert")
    given = tiny.inputs(model, 2, 7)
    graph = transform(model)
    expected, seen = graph(**given).start_logits, []

    def wrap(moved: torch.fx.GraphModule):
        def run(**inside: torch.Tensor):
            seen.append({value.dtype for value in inside.values()})
            return moved(**inside)

        return run

    place(graph, torch.device("cpu"), wrap)
    assert_equal_bits(graph(**given).start_logits, expected)
    assert_equal_bits(
        graph(given["input_ids"], given["attention_mask"], given["token_type_ids"]).start_logits, expected
    )
    assert len(seen) == 2


def test_the_report_says_where_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = transform(tiny.build("bert"))
    stand_in(monkeypatch)
    to_device(graph, "cuda")
    assert report_of(graph).target["executed"] == "meta" and report_of(graph).target["device"] == "a GPU"
    assert report_of(graph).target["requested"] == "cpu"
