"""Statuses become the error that callers can act on."""

import pytest

from penstock_kube import errors


@pytest.mark.parametrize(
    ("code", "reason", "kind", "retryable"),
    [
        (400, "BadRequest", errors.InvalidError, False),
        (401, "Unauthorized", errors.UnauthorizedError, False),
        (403, "Forbidden", errors.ForbiddenError, False),
        (404, "NotFound", errors.NotFoundError, False),
        (409, "Conflict", errors.ConflictError, False),
        (409, "AlreadyExists", errors.AlreadyExistsError, False),
        (410, "Expired", errors.GoneError, False),
        (422, "Invalid", errors.InvalidError, False),
        (429, "TooManyRequests", errors.ThrottledError, True),
        (500, "InternalError", errors.ServerError, True),
        (504, "Timeout", errors.ServerError, True),
        (418, "Teapot", errors.StatusError, False),
    ],
)
def test_the_class_follows_the_code(code, reason, kind, retryable):
    error = errors.status_error(code, {"reason": reason, "message": "because"})
    assert type(error) is kind
    assert error.retryable is retryable
    assert str(error) == f"{code} {reason}: because"


def test_long_messages_are_cut():
    assert len(errors.status_error(422, {"message": "x" * 100_000}).message) == 2000


def test_an_empty_status_still_reads_well():
    assert str(errors.status_error(503, {})) == "503 Unknown: the server gave no message"
