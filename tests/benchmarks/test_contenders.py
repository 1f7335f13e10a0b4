"""The registry of peers, and what becomes of an engine: ready, not installed, or failed and said so."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch

from benchmarks import peers
from benchmarks.contenders import EQUAL_DB, Contender, LeftOut, ready
from benchmarks.inputs import Batches, random_batch
from benchmarks.peers.base import Engine
from models.errors import InputError
from tests.tiny import build

MODEL = build("bert")
BATCHES = Batches("one shape", (random_batch(MODEL, 2, 9),), (), one_shape=True)
FOLDER = Path(peers.__file__).parent


def engine(prepare: Callable, **more) -> Engine:
    return Engine("test", "fp32", ("torch",), prepare, **more)


def test_the_folder_is_the_registry() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "_models", "base"}
    listed = {"pytorch", "inductor", "torchao", "onnxruntime", "openvino", "ctranslate2"}
    assert set(peers.families()) == files >= listed
    names = [engine.name for engine in peers.engines()]
    assert names[0] == "PyTorch fp32" and len(names) == len(set(names))
    assert {engine.precision for engine in peers.engines()} == {"fp32", "bf16", "int8"}


def test_peers_are_chosen_by_pattern() -> None:
    chosen = peers.select(["pytorch dynamic*", "OpenVINO fp32"])
    assert [engine.name for engine in chosen] == [
        "PyTorch dynamic int8 (onednn)", "PyTorch dynamic int8 (fbgemm)", "OpenVINO fp32",
    ]  # fmt: skip
    assert peers.select([]) == peers.engines()
    with pytest.raises(InputError, match=r"no peer is called 'tensorflow'; there are: PyTorch fp32"):
        peers.select(["tensorflow"])


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("PyTorch fp32", EQUAL_DB),
        ("PyTorch bf16", 25),
        ("PyTorch dynamic int8 (onednn)", 15),
        ("PyTorch dynamic int8 (fbgemm)", 15),
    ],
)
def test_pytorchs_own_engines_compute_the_model(name: str, least: float) -> None:
    (chosen,) = [engine for engine in peers.engines() if engine.name == name]
    before = torch.backends.quantized.engine
    found = ready(chosen, MODEL, BATCHES, threads=1)
    assert isinstance(found, Contender) and found.sqnr_db >= least
    assert torch.backends.quantized.engine == before
    assert chosen.version() == torch.__version__


@pytest.mark.parametrize(("name", "least"), [
    ("ONNX Runtime, our dynamic file", 25),
    ("ONNX Runtime, our static Q/DQ file", 15),
])  # fmt: skip
def test_our_files_in_onnx_runtime_compute_the_model(name: str, least: float) -> None:
    (chosen,) = peers.select([name])
    found = ready(chosen, MODEL, BATCHES, threads=1)
    assert isinstance(found, Contender), found
    assert found.sqnr_db >= least


@pytest.mark.parametrize("name", ["CUDA", "OpenVINO"])
def test_another_provider_is_never_replaced_by_the_cpu(name: str) -> None:
    (chosen,) = peers.select([f"ONNX Runtime {name}, *"])
    found = ready(dataclasses.replace(chosen, packages=("onnxruntime",)), MODEL, BATCHES, threads=1)
    if name not in "".join(onnxruntime.get_available_providers()):
        assert isinstance(found, LeftOut) and f"this onnxruntime has no provider {name}; it has" in found.reason


def test_a_package_that_is_not_there_is_named() -> None:
    absent = Engine("test", "int8", ("torch", "no-such-package-anywhere"), lambda work: pytest.fail("prepared"))
    found = ready(absent, MODEL, BATCHES, threads=1)
    assert isinstance(found, LeftOut) and not found.installed
    assert found.reason == "not installed: pip install no-such-package-anywhere"


def fails(work):
    print("chatter")
    raise RuntimeError("no such kernel\nand a long story")


def nothing_but_nan(work):
    return lambda batch: tuple(torch.full(batch["input_ids"].shape, float("nan")) for _ in range(2))


@pytest.mark.parametrize(
    ("prepare", "more", "said"),
    [
        (fails, {}, "RuntimeError: no such kernel"),
        (nothing_but_nan, {}, "ValueError: its output is not a number (NaN)"),
        (lambda work: lambda batch: (torch.zeros(2, 3),) * 2, {}, "its output has the shapes"),
        (lambda work: lambda batch: (torch.zeros(2, 9),) * 2, {"encoder_only": True}, "its output has the shapes"),
    ],
    ids=["raises", "nan", "wrong shape", "logits for hidden states"],
)
def test_one_that_fails_is_left_out_in_one_line(prepare, more, said, capfd: pytest.CaptureFixture[str]) -> None:
    found = ready(engine(prepare, **more), MODEL, BATCHES, threads=1)
    assert isinstance(found, LeftOut) and found.installed
    assert said in found.reason and "\n" not in found.reason
    assert capfd.readouterr() == ("", "")


def test_every_batch_is_run_once_before_anything_is_timed() -> None:
    seen = []
    two = Batches("two", (random_batch(MODEL, 1, 4), random_batch(MODEL, 1, 6)), (4, 6), one_shape=False)

    def prepare(work):
        assert (work.dynamic, work.threads, work.batch) == (True, 3, two.batches[0])

        def run(batch):
            seen.append(batch["input_ids"].shape[1])
            output = MODEL(**batch)
            return output.start_logits.detach(), output.end_logits.detach()

        return run

    assert isinstance(ready(engine(prepare), MODEL, two, threads=3), Contender)
    assert seen == [4, 6]
