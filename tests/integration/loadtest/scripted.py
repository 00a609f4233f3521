"""A small OpenAI-like server that does what a script says, request after request."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CLEAN_ERROR = {"error": {"message": "busy", "type": "overloaded_error", "param": None, "code": "overloaded"}}


class Scripted(ThreadingHTTPServer):
    """Runs the acts in turn, and from the beginning again; keeps the bodies it was sent."""

    daemon_threads = True

    def __init__(self, acts):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.acts = itertools.cycle(acts)
        self.bodies = []
        self.keys = []
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            act = next(self.server.acts)
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["authorization"])
        assert self.path == "/v1/chat/completions"
        getattr(self, f"act_{act}")(body)

    def log_message(self, *_):
        pass

    def act_good(self, body, pause_s=0.002):
        usage = {"prompt_tokens": len(body["messages"][0]["content"]), "completion_tokens": 4}
        if not body.get("stream"):
            self._json(200, {"choices": [{"message": {"content": "four"}}], "usage": usage})
            return
        self._begin()
        for text in ("", "f", "o", "u", "r"):
            self._event({"choices": [{"index": 0, "delta": {"content": text}}]})
            time.sleep(pause_s)
        self._event({"choices": [], "usage": usage})
        self._end()

    def act_slow(self, body):
        self.act_good(body, pause_s=30)

    def act_shed(self, _):
        self._json(503, CLEAN_ERROR)

    def act_traceback(self, _):
        self._json(500, "Traceback (most recent call last)")

    def act_error_event(self, _):
        self._begin()
        self._event({"choices": [{"index": 0, "delta": {"content": "f"}}]})
        self._event(CLEAN_ERROR)
        self._end()

    def act_truncated(self, _):
        self._begin()
        self._event({"choices": [{"index": 0, "delta": {"content": "f"}}]})
        self._chunk(b"")

    def act_broken(self, _):
        self._begin()
        self._event({"choices": [{"index": 0, "delta": {"content": "f"}}]})
        self.close_connection = True

    def act_refused(self, _):
        self.close_connection = True

    def _json(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-request-id", "req-7")
        self.end_headers()

    def _event(self, value):
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _end(self):
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


@contextmanager
def scripted_server(*acts: str) -> Iterator[Scripted]:
    server = Scripted(acts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
