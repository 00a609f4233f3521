"""What a load cannot work with is said before it begins."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from penstock_loadtest.cli import command
from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.preflight import check_server
from penstock_loadtest.settings import LoadSettings


class _Models(BaseHTTPRequestHandler):
    def do_GET(self):
        assert self.path == "/v1/models"
        if self.headers["authorization"] == "Bearer wrong":
            status, body = 401, {"error": {"message": "Key unknown."}}
        else:
            status, body = self.server.answer
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(status, body):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Models)
    server.answer = status, body
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


LISTING = {"object": "list", "data": [{"id": "tiny"}, {"id": "large"}]}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"api_key": "wrong"}, r"api_key is refused \(401: Key unknown\)"),
        ({"model": "tinny"}, "did you mean tiny"),
        ({"model": "zzz"}, "it serves tiny, large"),
    ],
)
def test_a_wrong_key_or_model_is_named(changed, word):
    with serving(200, LISTING) as url, pytest.raises(LoadSettingsError, match=word):
        check_server(LoadSettings(**{"url": url, "model": "tiny", **changed}))


@pytest.mark.parametrize("base", ["", "/", "/v1"])
@pytest.mark.parametrize("answer", [(200, LISTING), (404, {}), (200, {"data": "?"})])
def test_a_server_that_has_the_model_or_lists_none_passes(answer, base):
    with serving(*answer) as url:
        check_server(LoadSettings(url=url + base, model="tiny"))


def test_a_server_that_is_not_there_is_named_with_exit_code_2():
    with serving(200, LISTING) as url:
        pass
    result = CliRunner().invoke(command, ["--url", url, "--model", "tiny", "--duration", "1"])
    assert (result.exit_code, url in result.output, "refused" in result.output) == (2, True, True)


@pytest.mark.parametrize("option", ["--json", "--records"])
def test_a_file_that_cannot_be_written_is_named_before_the_load(tmp_path, option):
    (tmp_path / "file").write_text("")
    below = str(tmp_path / "file" / "below")
    result = CliRunner().invoke(command, ["--url", "http://127.0.0.1:1", "--model", "tiny", option, below])
    assert (result.exit_code, f"{option} {below}" in result.output) == (2, True)
