"""Keys are read when a Tenant changes, when a watched Secret does, and else from time to time."""

import base64

import pytest

from penstock.api import Tenant
from penstock.routing.keys import hash_key
from penstock_kube.errors import ForbiddenError, NotFoundError, NotLeaderError, UnreachableError
from penstock_kube.resources import SECRETS, TENANTS, Key
from penstock_operator.tenant.keys import KeyReader
from penstock_operator.tenant.plan import LOOK_AGAIN_S, REREAD_S
from penstock_operator.typed import Typed
from tests.unit.kube.fake_clock import FakeClock
from tests.unit.operator.objects import HandMirror, tenant

pytestmark = pytest.mark.anyio
PEPPER = b"pepper"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Secrets:
    """The one call of a client that is made here."""

    def __init__(self):
        self.reads = 0
        self.entries = {}
        self.error = None

    async def get(self, kind, namespace, name):
        assert kind is SECRETS
        self.reads += 1
        if self.error is not None:
            raise self.error
        if name not in self.entries:
            raise NotFoundError(404, "NotFound", f'secrets "{name}" not found')
        return secret(namespace, name, **self.entries[name])


def secret(namespace, name, **entries):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name}, "data": data}


class World:
    def __init__(self):
        self.clock, self.secrets = FakeClock(), Secrets()
        self.labelled, self.tenants = HandMirror(SECRETS), HandMirror(TENANTS)
        self.typed = Typed(Tenant, self.tenants)
        self.reader = KeyReader(self.secrets, self.labelled, PEPPER, self.clock)
        self.tenants.put(tenant("a", "t"))

    async def read(self):
        return await self.reader.read(self.typed.get("a", "t"))

    async def hashes(self):
        return [finding.hash for finding in (await self.read()).findings]


def hashed(key):
    return hash_key(PEPPER, key)


async def test_a_watched_secret_is_never_asked_for():
    world = World()
    world.labelled.put(secret("a", "keys", main="sk-1"))
    assert await world.hashes() == [hashed("sk-1")]
    world.labelled.put(secret("a", "keys", main="sk-2"))
    reading = await world.read()
    assert [finding.hash for finding in reading.findings] == [hashed("sk-2")]
    assert (reading.unwatched, reading.again_s, world.secrets.reads) == ((), None, 0)


async def test_a_watched_secret_that_goes_takes_its_keys_along_at_once():
    world = World()
    world.labelled.put(secret("a", "keys", main="sk-1"))
    await world.read()
    world.labelled.remove("a", "keys")
    reading = await world.read()
    assert (reading.findings[0].hash, reading.findings[0].reason) == (None, "SecretNotFound")


async def test_a_watched_secret_that_loses_its_label_is_read_at_once():
    world = World()
    world.labelled.put(secret("a", "keys", main="sk-1"))
    await world.read()
    world.labelled.remove("a", "keys")
    world.secrets.entries["keys"] = {"main": "sk-2"}
    assert await world.hashes() == [hashed("sk-2")]


async def test_another_is_read_when_it_is_time_and_when_the_tenant_changes():
    world = World()
    world.secrets.entries["keys"] = {"main": "sk-1"}
    reading = await world.read()
    assert (reading.unwatched, reading.again_s) == (("keys",), REREAD_S)
    await world.clock.advance(REREAD_S - 1)
    world.secrets.entries["keys"] = {"main": "sk-2"}
    assert (await world.hashes(), world.secrets.reads) == ([hashed("sk-1")], 1)
    await world.clock.advance(1)
    assert (await world.hashes(), world.secrets.reads) == ([hashed("sk-2")], 2)
    world.secrets.entries["keys"] = {"main": "sk-3"}
    world.tenants.put(tenant("a", "t", priority=5))
    assert (await world.hashes(), world.secrets.reads) == ([hashed("sk-3")], 3)


async def test_a_missing_one_is_looked_for_sooner():
    world = World()
    reading = await world.read()
    assert reading.findings[0].reason == "SecretNotFound"
    assert reading.again_s == LOOK_AGAIN_S
    world.secrets.entries["keys"] = {"main": "sk-1"}
    await world.clock.advance(LOOK_AGAIN_S)
    assert await world.hashes() == [hashed("sk-1")]


async def test_one_read_serves_all_keys_of_a_secret():
    world = World()
    refs = [{"name": name, "secretRef": {"name": "keys", "key": name}} for name in ("x", "y", "z")]
    world.tenants.put(tenant("a", "t", keys=refs))
    world.secrets.entries["keys"] = {"x": "sk-x", "y": "sk-y"}
    reading = await world.read()
    assert [finding.hash for finding in reading.findings] == [hashed("sk-x"), hashed("sk-y"), None]
    assert world.secrets.reads == 1


@pytest.mark.parametrize(
    "error", [ForbiddenError(403, "Forbidden", "no"), UnreachableError("gone")], ids=["forbidden", "unreachable"]
)
async def test_a_secret_that_cannot_be_read_keeps_what_it_had(error):
    world = World()
    world.secrets.entries["keys"] = {"main": "sk-1"}
    await world.read()
    world.secrets.error = error
    await world.clock.advance(REREAD_S)
    reading = await world.read()
    (finding,) = reading.findings
    assert (finding.hash, finding.reason, reading.partial) == (hashed("sk-1"), "SecretNotRead", False)
    assert "let the operator get and list Secrets" in finding.message
    assert reading.again_s == LOOK_AGAIN_S


async def test_who_never_read_it_says_so():
    world = World()
    world.secrets.error = UnreachableError("gone")
    reading = await world.read()
    assert (reading.findings[0].hash, reading.partial) == (None, True)


async def test_a_tenant_made_anew_under_the_same_name_inherits_nothing():
    world = World()
    world.secrets.entries["keys"] = {"main": "sk-1"}
    await world.read()
    world.tenants.remove("a", "t")
    world.tenants.put(tenant("a", "t"))
    world.secrets.error = UnreachableError("gone")
    assert await world.hashes() == [None]


async def test_who_no_longer_leads_reads_nothing_into_it():
    world = World()
    world.secrets.error = NotLeaderError("another leads")
    with pytest.raises(NotLeaderError):
        await world.read()


async def test_no_key_is_kept_in_memory():
    world = World()
    world.secrets.entries["keys"] = {"main": "sk-in-memory"}
    await world.read()
    assert "sk-in-memory" not in repr(world.reader._kept)
    world.reader.forget(Key("a", "t"))
    assert world.reader._kept == {}
