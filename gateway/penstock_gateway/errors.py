"""Everything a gateway answers that is not an engine's answer, as one tree, mapped to bytes in one place.

GatewayError
├── BadHTTPError                 400  not a request we would ever pass on
│   ├── HeadTooLargeError        431
│   ├── UnsupportedVersionError  505
│   ├── UnsupportedContentCodingError   415
│   └── UnsupportedTransferCodingError  501
├── BadRequestError              400  a body with something wrong in it; `param` names it
├── InvalidKeyError              401
├── NotFoundError                404  an unknown path
├── ModelNotFoundError           404  an unknown model, or one this tenant may not use
├── MethodNotAllowedError        405
├── ReadTimeoutError             408
├── BodyTooLargeError            413
├── RateLimitedError             429
├── EngineRefusalError           4xx  the engine's own refusal, in OpenAI's shape
├── EngineFailedError            502  the engine or the way to it broke
├── NoReplicaError               503
└── EngineTimeoutError           504
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

INVALID_REQUEST: Final = "invalid_request_error"
SERVER_ERROR: Final = "server_error"


class ErrorBody(msgspec.Struct, frozen=True):
    """The inside of OpenAI's error shape; clients rely on all four keys being there."""

    message: str
    type: str
    param: str | None
    code: str | None


class _Envelope(msgspec.Struct, frozen=True):
    error: ErrorBody


class GatewayError(Exception):
    """Base of all. `message` is for the client: it names what is wrong, the value where that helps, and the remedy."""

    status: int = 500
    type: str = SERVER_ERROR
    code: str | None = None
    closes: ClassVar[bool] = False
    """The connection cannot be used after this: the rest of the request is not read or not trusted."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Header fields that go with this answer."""
        return () if self.retry_after_s is None else (("retry-after", str(self.retry_after_s)),)


class BadHTTPError(GatewayError):
    """Bytes that are no acceptable HTTP request."""

    status, type, code, closes = 400, INVALID_REQUEST, "bad_http", True


class HeadTooLargeError(BadHTTPError):
    """Too many headers, or too long."""

    status, code = 431, "headers_too_large"


class UnsupportedVersionError(BadHTTPError):
    """Neither HTTP/1.1 nor HTTP/1.0."""

    status, code = 505, "http_version_not_supported"


class UnsupportedTransferCodingError(BadHTTPError):
    """A transfer coding other than none and `chunked`."""

    status, code = 501, "coding_not_supported"


class UnsupportedContentCodingError(BadHTTPError):
    """A compressed body."""

    status, code = 415, "content_coding_not_supported"


class BadRequestError(GatewayError):
    """A body that is not what the path takes."""

    status, type, code = 400, INVALID_REQUEST, "invalid_value"


class InvalidKeyError(GatewayError):
    """No key where one is needed, or one that no tenant has."""

    status, type, code = 401, INVALID_REQUEST, "invalid_api_key"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the challenge that HTTP asks for."""
        return (("www-authenticate", 'Bearer realm="penstock"'),)


class NotFoundError(GatewayError):
    """A path that is not served."""

    status, type, code = 404, INVALID_REQUEST, "unknown_url"


_SHOWN_CHARACTERS: Final = 200


def _clip(text: str) -> str:
    """Shorten what a client sent, to be shown in an error."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


class ModelNotFoundError(GatewayError):
    """A model that does not exist, or that this tenant may not use: the answer does not tell which."""

    status, type, code = 404, INVALID_REQUEST, "model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model {_clip(name)!r} does not exist or you do not have access to it. "
            "GET /v1/models lists those that you may use.",
            param="model",
        )


class MethodNotAllowedError(GatewayError):
    """A known path, another method."""

    status, type, code = 405, INVALID_REQUEST, "method_not_supported"

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{path} does not take {method}; use {allowed}.")
        self.allowed = allowed

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the methods that are allowed."""
        return (("allow", self.allowed),)


class ReadTimeoutError(GatewayError):
    """A client that did not send its request in time."""

    status, type, code, closes = 408, INVALID_REQUEST, "request_timeout", True


class BodyTooLargeError(GatewayError):
    """A body over the limit."""

    status, type, code, closes = 413, INVALID_REQUEST, "request_too_large", True


class RateLimitedError(GatewayError):
    """Over the tenant's limits."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class EngineRefusalError(GatewayError):
    """An engine's own 4xx."""

    type = INVALID_REQUEST

    def __init__(self, status: int, body: ErrorBody) -> None:
        super().__init__(body.message, param=body.param)
        self.status, self.type, self.code = status, body.type, body.code


class EngineFailedError(GatewayError):
    """No replica could answer, or one broke while answering. Says nothing about the engine's insides."""

    status, code = 502, "engine_failed"


class NoReplicaError(GatewayError):
    """A known model that nothing serves at the moment."""

    status, code = 503, "no_replica"


class EngineTimeoutError(GatewayError):
    """A replica that accepted the request and then kept silent."""

    status, code = 504, "engine_timeout"


def encode_error(error: GatewayError) -> bytes:
    """Return the error as a JSON body."""
    return _encode(_Envelope(ErrorBody(error.message, error.type, error.param, error.code)))


_encode = msgspec.json.Encoder().encode
