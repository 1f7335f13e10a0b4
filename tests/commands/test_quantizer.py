"""`--quantizer`: words for what is not there, before a model is loaded."""

import importlib.metadata

import pytest

from tests.cli import Cli


def test_an_unknown_quantizer(cli: Cli) -> None:
    result = cli("--precision", "int", "--quantizer", "someone", "ask", "--question", "Who?")
    result.fails_in_one_line(2, "unknown quantizer 'someone'", "native, inc, torchao")


@pytest.mark.parametrize("name, package", [("torchao", "torchao"), ("inc", "neural-compressor-pt")])
def test_a_missing_package_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("toolkit.quantizers.version", missing)
    result = cli("--precision", "int", "--quantizer", name, "ask", "--question", "Who?")
    result.fails_in_one_line(2, f"wants the package {package}", f"pip install {package}==")
