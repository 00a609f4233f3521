"""Errors: one shape for all, engines' own brought into it, and nothing of an engine's insides let out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_gateway import errors
from penstock_gateway.errors import GatewayError, RateLimitedError, encode_error
from penstock_gateway.relay.engine_errors import shape_engine_error, stream_error


def all_kinds(kind: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in all_kinds(child))]


def test_every_kind_is_in_the_tree_that_opens_the_module():
    for kind in all_kinds():
        assert kind.__name__ in errors.__doc__


def test_the_shape_has_all_four_keys():
    error = RateLimitedError("slow down", param="model", retry_after_s=3)
    assert json.loads(encode_error(error)) == {
        "error": {"message": "slow down", "type": "rate_limit_error", "param": "model", "code": "rate_limit_exceeded"}
    }
    assert error.headers == (("retry-after", "3"),)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "bad n", "type": "BadRequestError", "param": "n", "code": 400}},
        {"object": "error", "message": "bad n", "type": "BadRequestError", "param": "n", "code": 400},
        {"error": "bad n"},
        {"detail": "bad n"},
    ],
)
def test_the_shapes_in_use_become_one(body: dict):
    error = shape_engine_error(400, json.dumps(body).encode())
    assert (error.status, error.message, error.type, error.code) == (400, "bad n", "invalid_request_error", None)
    assert error.param in {"n", None}


@given(st.integers(400, 599), st.binary(max_size=200))
def test_any_answer_of_an_engine_becomes_a_well_formed_error(status: int, body: bytes):
    error = json.loads(encode_error(shape_engine_error(status, body)))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


def test_a_5xx_says_nothing_of_the_engine():
    error = shape_engine_error(500, b'{"error": {"message": "CUDA out of memory at /opt/engine"}}')
    assert error.status == 502
    assert "CUDA" not in error.message


@pytest.mark.parametrize(
    ("error", "blamed", "status"),
    [
        (b'{"message": "EngineCore encountered an issue", "code": 500}', True, 502),
        (b'{"message": "no such tool", "code": 400}', False, 400),
        (b'{"code": 500}', True, 502),
        (b'"text"', True, 502),
    ],
)
def test_an_error_event_blames_the_replica_unless_it_is_about_the_request(error: bytes, blamed: bool, status: int):
    shaped, replica_failed = stream_error(error)
    assert (replica_failed, shaped.status) == (blamed, status)
