"""What can go wrong between us and a Kubernetes API server.

KubeError
├── ConfigError                   no kubeconfig, and not in a cluster
├── NotLeaderError                a write was refused here, because leadership is gone or in doubt
├── UnreachableError              no answer: refused, reset, stalled or timed out; retryable
└── StatusError                   the server answered with a Status
    ├── InvalidError              400, 422: the object can never be accepted as it is
    ├── UnauthorizedError         401
    ├── ForbiddenError            403
    ├── NotFoundError             404
    ├── ConflictError             409: changed meanwhile, or fields that another manager owns
    │   └── AlreadyExistsError    409: a create of what is there
    ├── GoneError                 410: the resource version or continue token is too old
    ├── ThrottledError            429; retryable
    └── ServerError               5xx; retryable
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST_MESSAGE = 2000


class KubeError(Exception):
    """Anything that keeps a call from succeeding."""

    retryable = False
    """Whether the same call may succeed later without anybody changing anything."""
    retry_after_s: float | None = None
    """What the server asked to wait before the next try, in seconds."""


class ConfigError(KubeError):
    """There is no way to reach a cluster; the message says where one was looked for."""


class NotLeaderError(KubeError):
    """This process may not write, since another may be leading by now."""


class UnreachableError(KubeError):
    """No answer in time, or none at all. A write may or may not have happened."""

    retryable = True


class StatusError(KubeError):
    """The server's own account of what is wrong."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.code = code
        """HTTP status."""
        self.reason = reason
        """One CamelCase word: `NotFound`, `Expired`, `Invalid`."""
        self.message = message[:_LONGEST_MESSAGE]
        self.details = details or {}
        """The Status's details: `causes` name fields."""
        self.retry_after_s = retry_after_s
        super().__init__(f"{code} {reason}: {self.message}")


class InvalidError(StatusError):
    """400 or 422: retrying is pointless until somebody changes the object."""


class UnauthorizedError(StatusError):
    """401: the credentials are missing, wrong or expired."""


class ForbiddenError(StatusError):
    """403: RBAC does not allow it, or a quota is used up."""


class NotFoundError(StatusError):
    """404: there is no such object, or no such kind."""


class ConflictError(StatusError):
    """409: the object changed since it was read, or another field manager owns a field."""


class AlreadyExistsError(ConflictError):
    """409: there is an object of that name already."""


class GoneError(StatusError):
    """410: history before now is compacted; list again."""


class ThrottledError(StatusError):
    """429: the server sheds load."""

    retryable = True


class ServerError(StatusError):
    """5xx: the server or what is behind it has a problem."""

    retryable = True


_BY_CODE: Mapping[int, type[StatusError]] = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: ThrottledError,
}


def status_error(code: int, status: Mapping[str, Any], retry_after_s: float | None = None) -> StatusError:
    """Return the error for an HTTP status and the `Status` object that came with it, empty when none did."""
    reason = str(status.get("reason") or "Unknown")
    message = str(status.get("message") or "the server gave no message")
    kind = _BY_CODE.get(code, ServerError if code >= 500 else StatusError)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExistsError
    return kind(code, reason, message, details=status.get("details") or {}, retry_after_s=retry_after_s)
