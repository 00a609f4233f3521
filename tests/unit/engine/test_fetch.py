"""Weights are brought into the hub's cache by the hub's own client, from a hub that is played here."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx2
import pytest

from penstock_engine.fetch import RemoteFile, wanted_files
from tests.support.control_plane import free_ports

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": b"a" * 200_000,
    "model-00002-of-00002.safetensors": b"b" * 100_000,
    "pytorch_model.bin": b"c" * 300_000,
    "original/consolidated.00.pth": b"d" * 300_000,
    "tokenizer.json": b"{}",
}
WANTED = {name for name in FILES if not name.endswith((".bin", ".pth"))}


class Hub:
    """As much of a hub as its client asks for when it downloads."""

    def __init__(self):
        self.status = 200
        self.error_code = None
        self.gate = threading.Event()
        self.gate.set()
        self.sent = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request, *, body):
        path = urlsplit(request.path).path
        if self.status != 200:
            headers = {} if self.error_code is None else {"X-Error-Code": self.error_code}
            return self.send(request, self.status, b'{"error": "no"}', headers, body=body)
        if path.startswith("/api/models/acme/llama"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            found = {"id": "acme/llama", "sha": COMMIT, "siblings": siblings}
            return self.send(request, 200, json.dumps(found).encode(), {}, body=body)
        name = path.split("/", 5)[-1]
        if "/resolve/" not in path or name not in FILES:
            return self.send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"}, body=body)
        data = FILES[name]
        tag = hashlib.sha256(data).hexdigest()
        if body:
            self.gate.wait(30)
            self.sent.append(name)
        return self.send(request, 200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body=body)

    def send(self, request, status, data, headers, *, body):
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(data)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


class Fetch:
    """One run of the program."""

    def __init__(self, hub, home, uri="hf://acme/llama"):
        (self.port,) = free_ports(1)
        self.home = home
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "penstock_engine.fetch", uri, "--port", str(self.port)],
            env={**environment, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, "NO_PROXY": "*"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def progress(self):
        return httpx2.get(f"http://127.0.0.1:{self.port}/progress", trust_env=False, timeout=5.0).json()

    def end(self):
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said

    def cached(self):
        folder = self.home / "hub" / "models--acme--llama" / "snapshots" / COMMIT
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_an_engine_loads_is_in_the_cache(hub, tmp_path):
    fetch = Fetch(hub, tmp_path)
    code, said = fetch.end()
    assert (code, "300025 bytes are in the cache" in said) == (0, True), said
    assert fetch.cached() == WANTED
    assert (tmp_path / "hub" / "models--acme--llama" / "refs" / "main").read_text() == COMMIT


def test_a_second_run_downloads_nothing(hub, tmp_path):
    assert Fetch(hub, tmp_path).end()[0] == 0
    hub.sent.clear()
    assert Fetch(hub, tmp_path).end()[0] == 0
    assert hub.sent == []


def test_progress_is_told_while_it_runs(hub, tmp_path):
    hub.gate.clear()
    fetch = Fetch(hub, tmp_path)
    deadline_s = time.monotonic() + 60
    told = {}
    while told.get("total_bytes") is None:
        assert time.monotonic() < deadline_s, told
        assert fetch.process.poll() is None, fetch.process.stderr.read()
        try:
            told = fetch.progress()
        except httpx2.HTTPError:
            time.sleep(0.1)
    assert told == {"uri": "hf://acme/llama", "done_bytes": 0, "total_bytes": 300025}
    hub.gate.set()
    assert fetch.end()[0] == 0


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, "GatedRepo"), 3, "accept its terms and give a token in spec.sourceSecretRef"),
        ((404, "RepoNotFound"), 3, "there is no such repository, or it is private"),
        ((404, "RevisionNotFound"), 3, "check what follows @"),
        ((503, None), 1, "the hub answered 503"),
    ],
)
def test_a_failure_names_its_remedy_and_says_whether_to_try_again(hub, tmp_path, answer, code, said):
    hub.status, hub.error_code = answer
    ended, text = Fetch(hub, tmp_path).end()
    assert (ended, said in text) == (code, True), text
    assert "Traceback" not in text


@pytest.mark.parametrize("uri", ["s3://bucket/x", "hf://a b/c", "nope://x"])
def test_what_is_not_fetched_is_said(hub, tmp_path, uri):
    ended, text = Fetch(hub, tmp_path, uri).end()
    assert ended == 3
    assert uri in text


def test_one_format_of_weights_is_enough():
    def names(*paths):
        return {file.path for file in wanted_files(RemoteFile(path=path, size_bytes=1) for path in paths)}

    assert names("a.safetensors", "a.bin", "config.json") == {"a.safetensors", "config.json"}
    assert names("a.bin", "a.pt", "sub/x.bin") == {"a.bin"}
    assert names("model.safetensors", "consolidated.safetensors") == {"model.safetensors"}
    assert names("consolidated.safetensors", "params.json") == {"consolidated.safetensors", "params.json"}
    assert names("model.onnx", "1_Pooling/config.json") == {"1_Pooling/config.json"}
