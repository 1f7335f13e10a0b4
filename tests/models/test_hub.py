"""Hugging Face names against a hub of our own: nothing here reaches the network."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from models import InputError, hub, load
from tests.models.samples import ROOT, TOKENIZER_FILES, tiny_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Answers(BaseHTTPRequestHandler):
    """A hub that has no model at all."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as listening:  # connects, and never answers
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        yield


def put_in_cache(cache: Path, name: str) -> Path:
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return tiny_folder(place / "snapshots" / COMMIT)


def refused(name: str, said: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InputError) as error:
        load(name)
    assert said in str(error.value) and name in str(error.value) and "\n" not in str(error.value)
    assert time.perf_counter() - begun < 9, "that of the Hugging Face client is 10 s, and it tries again"


@pytest.mark.parametrize("name", ["no-such-model", "org/no-such"])
def test_an_unknown_model_is_one_line(name: str, cache: Path, answering: None) -> None:
    refused(name, "neither here nor on the Hugging Face hub")


@pytest.mark.parametrize("name", ["no such model", "org/no?such", "--strict"])
def test_what_is_no_name_is_one_line(name: str, cache: Path, refusing: None) -> None:
    refused(name, "no model")


@pytest.mark.parametrize("name", ["no-such-model", "org/no-such"])
def test_without_a_network_it_is_one_line_at_once(name: str, cache: Path, refusing: None) -> None:
    refused(name, "hub didn't give it")


def test_a_hub_that_never_answers_is_not_waited_for(cache: Path, silent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 0.5)
    refused("org/no-such", "hub didn't give it")


def test_offline_mode_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch, refusing: None) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("org/no-such", "offline")


@pytest.mark.parametrize("network", ["refusing", "silent"])
def test_without_a_network_the_cache_serves(
    cache: Path, network: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue(network)
    monkeypatch.setattr(hub, "TIMEOUT", 0.5)
    snapshot = put_in_cache(cache, "org/model")
    assert Path(hub.download("org/model")) == snapshot
    model, _ = load("org/model")
    assert model.config.hidden_size == 16


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "run.py", "--model", "org/no-such", "ask", "--question", "Who?"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert "no model org/no-such here" in done.stderr


def test_a_model_is_downloaded_without_pickle_and_code(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_folder(tmp_path / "source")
    for file in ("pytorch_model.bin", "code.py", "README.md"):
        (source / file).write_text("not wanted")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.safetensors").write_text("not wanted")
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve(source, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    folder = Path(hub.download("org/model"))
    server.shutdown()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["config.json", "model.safetensors", *TOKENIZER_FILES]
    )
    assert not any("pytorch_model" in path or "code.py" in path for path in asked)
    assert load(str(folder))[0].config.hidden_size == 16


def serve(source: Path, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    """The few calls of the hub's interface that a download makes, for the one model `org/model`."""
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())

    class Handler(Answers):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.split("?")[0]
            if path.startswith("/api/models/org/model/tree/"):
                tree = [
                    {"type": "file", "path": file, "size": (source / file).stat().st_size, "oid": file}
                    for file in files
                ]
                self.give(json.dumps(tree).encode())
            elif path.startswith("/api/models/org/model"):
                siblings = [{"rfilename": file} for file in files]
                self.give(json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode())
            else:
                self.give((source / path.split(f"/resolve/{COMMIT}/")[1]).read_bytes())

        do_HEAD = do_GET

        def give(self, raw: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hash(self.path.split("?")[0]):x}"'.replace("-", ""))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(raw)

    return Handler
