"""What a request's head may hold: the parser is strict already, this refuses the rest and keeps what is needed.

Refused by the parser (llhttp, none of its leniencies on): both lengths at once, duplicate or malformed lengths, bad
chunk sizes, folded fields, spaces before colons, control characters, bare line feeds, unknown methods.
"""

from __future__ import annotations

from typing import Any, Final

from penstock_gateway.errors import (
    BadHTTPError,
    BodyTooLargeError,
    HeadTooLargeError,
    UnsupportedContentCodingError,
    UnsupportedTransferCodingError,
    UnsupportedVersionError,
)
from penstock_gateway.relay.request import Request
from penstock_gateway.settings import Limits

_FORWARDED: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})
"""All that an engine gets of a client's fields: an allow-list, since others steer Ray Serve or vLLM
(`x-request-timeout-seconds`, `x-request-disconnect-disabled`, `x-data-parallel-rank`) or claim an identity."""

_READ: Final = _FORWARDED | {
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"expect",
    b"host",
    b"transfer-encoding",
    b"x-client-request-id",
    b"x-penstock-tenant",
    b"x-penstock-why",
    b"x-request-id",
}
_CODINGS: Final = frozenset({b"content-encoding", b"transfer-encoding"})
_ONCE: Final = frozenset({b"authorization", b"host", b"x-client-request-id", b"traceparent"})
_CLIENT_ID_BYTES: Final = 512


class HeadReader:
    """Collects one head at a time."""

    __slots__ = ("_fields", "_limits", "_url", "open")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.open = False
        """A head is being read."""
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []

    def reset(self) -> None:
        """Begin a head."""
        self.open = True
        self._url = b""
        self._fields.clear()

    def target(self, url: bytes) -> None:
        """Take some of the request target."""
        self._url += url

    def field(self, name: bytes, value: bytes) -> None:
        """Take a field; one that comes after the body, a trailer, is passed over."""
        if self.open:
            self._fields.append((name, value))

    def finish(self, request: Request, parser: Any) -> bool:
        """Fill in the request; return whether the client waits for `100 Continue`.

        Raises:
            BadHTTPError: the head is refused.
        """
        self.open = False
        version = parser.get_http_version()
        request.http10 = version == "1.0"
        if version != "1.1" and not request.http10:
            raise UnsupportedVersionError(f"HTTP/{version} is not spoken here; use HTTP/1.1.")
        fields = self._read()
        if b"host" not in fields and not request.http10:
            raise BadHTTPError("The Host header is missing. HTTP/1.1 requires it.")
        if not _CODINGS.isdisjoint(fields):
            _check_codings(fields, request.http10)
        length = fields.get(b"content-length")
        if length is not None and int(length) > self._limits.body_bytes:
            raise self.body_too_large()
        request.method = method = parser.get_method()
        request.head_only = method == b"HEAD"
        request.keep_alive = parser.should_keep_alive() and not request.http10
        request.path = _path(self._url)
        request.authorization = fields.get(b"authorization")
        client_id = fields.get(b"x-client-request-id") or fields.get(b"x-request-id")
        if client_id is not None and len(client_id) <= _CLIENT_ID_BYTES and client_id.isascii():
            request.client_request_id = client_id
            request.answer_fields = b"x-client-request-id: %b\r\n" % client_id
        if b"x-penstock-why" in fields:
            request.why = fields[b"x-penstock-why"].strip() == b"1"
            request.tenant_name = fields.get(b"x-penstock-tenant", b"").strip()
        if not _FORWARDED.isdisjoint(fields):
            request.forwarded = b"".join(
                b"%b: %b\r\n" % (name, fields[name]) for name in sorted(_FORWARDED & fields.keys())
            )
        expect = fields.get(b"expect")
        return expect is not None and not request.http10 and expect.lower() == b"100-continue"

    def too_large(self) -> HeadTooLargeError:
        """Return the refusal of a head over its limits."""
        limits = self._limits
        return HeadTooLargeError(
            f"The head of the request exceeds {limits.header_count} fields or {limits.head_bytes} bytes. Send fewer."
        )

    def body_too_large(self) -> BodyTooLargeError:
        """Return the refusal of a body over its limit."""
        return BodyTooLargeError(f"The request body exceeds {self._limits.body_bytes} bytes. Send less at a time.")

    def _read(self) -> dict[bytes, bytes]:
        """Return the fields that matter, by name in lower case."""
        limits, given = self._limits, self._fields
        size, repeated = len(self._url), b""
        fields: dict[bytes, bytes] = {}
        for name, value in given:
            size += len(name) + len(value)
            lowered = name.lower()
            if lowered in _READ:
                if lowered in fields and lowered in _ONCE:
                    repeated = lowered
                fields[lowered] = value
        if len(given) > limits.header_count or size > limits.head_bytes:
            raise self.too_large()
        if repeated:
            raise BadHTTPError(f"The header {repeated.decode()!r} was sent twice. Send it once.")
        return fields


def _check_codings(fields: dict[bytes, bytes], http10: bool) -> None:
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if http10:
            raise BadHTTPError("HTTP/1.0 has no Transfer-Encoding. Use HTTP/1.1 or Content-Length.")
        if coding.strip().lower() != b"chunked":
            raise UnsupportedTransferCodingError(
                "The only transfer coding taken is 'chunked'. Send the body with that or none."
            )
    content_coding = fields.get(b"content-encoding")
    if content_coding is not None and content_coding.strip().lower() != b"identity":
        raise UnsupportedContentCodingError(
            "Compressed request bodies are not taken. Send the body without Content-Encoding."
        )


def _path(url: bytes) -> bytes:
    """Return the path of a request target in origin or absolute form, without its query."""
    if url[:1] != b"/" and url.lower().startswith((b"http://", b"https://")):
        authority_end = url.find(b"/", 8)
        url = url[authority_end:] if authority_end >= 0 else b"/"
    path, _, _ = url.partition(b"?")
    return path
