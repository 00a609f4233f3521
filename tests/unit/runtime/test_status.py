"""Status is written when it differs, and only our part of it is looked at."""

import datetime as dt

import pytest

from penstock_kube.errors import NotFoundError
from penstock_kube.resources import ROUTES
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.status import write_status

pytestmark = pytest.mark.anyio
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
READY = Condition("Ready", "True", "Routed", "fine")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Client:
    """Keeps what is applied."""

    def __init__(self, error=None):
        self.written = []
        self.error = error

    async def apply(self, kind, obj, *, subresource):
        assert (kind, subresource) == (ROUTES, "status")
        if self.error is not None:
            raise self.error
        self.written.append(obj)


def route(status=None, generation=3):
    metadata = {"namespace": "a", "name": "r", "generation": generation}
    return {"metadata": metadata, **({} if status is None else {"status": status})}


async def write(client, obj, fields=None, condition=READY, now=NOW):
    return await write_status(client, ROUTES, obj, fields or {"modelName": "r"}, [condition], now=now)


async def test_the_first_look_writes_and_the_second_does_not():
    client = Client()
    assert await write(client, route())
    (written,) = client.written
    assert written["metadata"] == {"namespace": "a", "name": "r"}
    status = written["status"]
    assert (status["modelName"], status["observedGeneration"]) == ("r", 3)
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-24T12:00:00Z"
    assert not await write(client, route(status), now=NOW + dt.timedelta(hours=1))


async def test_what_others_put_there_is_no_difference():
    client = Client()
    await write(client, route())
    status = {**client.written[0]["status"], "foreign": 1}
    assert not await write(client, route(status))


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {"modelName": "other"}},
        {"condition": Condition("Ready", "True", "Routed", "better")},
        {"fields": {"modelName": None}},
    ],
    ids=["field", "message", "field gone"],
)
async def test_each_difference_is_written(change):
    client = Client()
    await write(client, route())
    assert await write(client, route(client.written[0]["status"]), **change)


async def test_a_new_generation_is_seen_to():
    client = Client()
    await write(client, route())
    assert await write(client, route(client.written[0]["status"], generation=4))


async def test_an_object_that_is_gone_is_no_error():
    assert not await write(Client(NotFoundError(404, "NotFound", "gone")), route())
