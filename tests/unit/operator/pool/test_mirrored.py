"""Our own writes count at once, and never longer than until somebody says otherwise."""

import pytest

from penstock_kube.errors import ConflictError
from penstock_kube.resources import ENDPOINT_SLICES
from penstock_operator.pool.mirrored import Mirrored
from tests.unit.operator.objects import HandMirror

pytestmark = pytest.mark.anyio


def item(name="a", value=1):
    return {"metadata": {"namespace": "team", "name": name}, "value": value}


class Client:
    """Takes writes; `meanwhile` happens before the answer is here."""

    def __init__(self):
        self.meanwhile = lambda: None
        self.refuses = False

    async def apply(self, kind, obj):
        self.meanwhile()
        if self.refuses:
            raise ConflictError(409, "Conflict", "changed meanwhile")
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": "9", "uid": "u"}}

    async def delete(self, kind, namespace, name, uid=None):
        self.meanwhile()


@pytest.fixture
def mirror():
    return HandMirror(ENDPOINT_SLICES)


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def mirrored(client, mirror, now):
    return Mirrored(client, mirror, clock=lambda: now[0])


def values(mirrored):
    return {obj["metadata"]["name"]: obj["value"] for obj in mirrored.all("team")}


async def test_a_write_counts_before_the_mirror_has_heard_of_it(mirrored, mirror):
    mirror.put(item("b", 2))
    await mirrored.apply(item())
    assert values(mirrored) == {"a": 1, "b": 2}
    assert mirrored.get("team", "a")["value"] == 1
    await mirrored.delete(mirrored.get("team", "b"))
    assert values(mirrored) == {"a": 1}


async def test_what_the_mirror_says_afterwards_counts(mirrored, mirror):
    await mirrored.apply(item())
    mirror.put(item(value=7))
    assert values(mirrored) == {"a": 7}


async def test_what_was_made_and_deleted_between_two_looks_is_gone(mirrored, mirror):
    await mirrored.apply(item())
    mirror.put(item())
    mirror.remove("team", "a")
    assert values(mirrored) == {}


async def test_a_mirror_that_was_faster_than_the_answer_counts(mirrored, mirror, client):
    client.meanwhile = lambda: mirror.put(item(value=8))
    await mirrored.apply(item())
    assert values(mirrored) == {"a": 8}


async def test_a_conflict_takes_back_what_was_thought(mirrored, mirror, client):
    mirror.put(item())
    await mirrored.apply(item(value=2))
    client.refuses = True
    with pytest.raises(ConflictError):
        await mirrored.apply(item(value=3))
    assert values(mirrored) == {"a": 1}


async def test_what_nobody_ever_hears_of_is_given_up(mirrored, now):
    await mirrored.apply(item())
    now[0] = 29.0
    assert values(mirrored) == {"a": 1}
    now[0] = 30.0
    assert values(mirrored) == {}
