"""The client against a real API server."""

import asyncio
import contextlib

import pytest

from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotLeaderError,
    UnauthorizedError,
    UnreachableError,
)
from penstock_kube.resources import CONFIG_MAPS
from tests.support.control_plane import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]


def config_map(name, **data):
    return {"metadata": {"namespace": "default", "name": name}, "data": data}


@pytest.fixture
async def client(plane):
    async with KubeClient(Access(str(plane.kubeconfig())), field_manager="penstock-operator") as client:
        yield client


@pytest.fixture
async def other(plane):
    async with KubeClient(Access(str(plane.kubeconfig())), field_manager="somebody") as client:
        yield client


async def test_apply_owns_its_fields_and_removes_those_it_no_longer_names(client, other):
    await client.apply(CONFIG_MAPS, config_map("owned", a="1", b="2"))
    await other.apply(CONFIG_MAPS, config_map("owned", c="3"))
    after = await client.apply(CONFIG_MAPS, config_map("owned", a="1"))
    assert after["data"] == {"a": "1", "c": "3"}


async def test_apply_without_force_is_told_who_owns_the_field(client, other):
    await other.apply(CONFIG_MAPS, config_map("contested", a="theirs"))
    with pytest.raises(ConflictError, match='conflict with "somebody"'):
        await client.apply(CONFIG_MAPS, config_map("contested", a="ours"), force=False)
    forced = await client.apply(CONFIG_MAPS, config_map("contested", a="ours"))
    assert forced["data"] == {"a": "ours"}


async def test_the_same_apply_again_writes_nothing(client):
    first = await client.apply(CONFIG_MAPS, config_map("same", a="1"))
    second = await client.apply(CONFIG_MAPS, config_map("same", a="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_a_dry_run_keeps_nothing(client):
    await client.apply(CONFIG_MAPS, config_map("dry", a="1"), dry_run=True)
    with pytest.raises(NotFoundError):
        await client.get(CONFIG_MAPS, "default", "dry")


async def test_a_replace_of_what_changed_meanwhile_is_refused(client):
    before = await client.create(CONFIG_MAPS, config_map("replaced", a="1"))
    await client.replace(CONFIG_MAPS, {**before, "data": {"a": "2"}})
    with pytest.raises(ConflictError) as caught:
        await client.replace(CONFIG_MAPS, {**before, "data": {"a": "3"}})
    assert not isinstance(caught.value, AlreadyExistsError)


async def test_a_create_of_what_is_there_is_refused(client):
    await client.create(CONFIG_MAPS, config_map("created"))
    with pytest.raises(AlreadyExistsError):
        await client.create(CONFIG_MAPS, config_map("created"))


async def test_a_delete_meant_for_an_earlier_object_spares_the_later(client):
    await client.create(CONFIG_MAPS, config_map("reborn"))
    with pytest.raises(ConflictError):
        await client.delete(CONFIG_MAPS, "default", "reborn", uid="00000000-0000-0000-0000-000000000000")
    await client.delete(CONFIG_MAPS, "default", "reborn")
    await client.delete(CONFIG_MAPS, "default", "reborn")  # gone already is no error


async def test_a_list_is_read_whole_over_many_pages(client, monkeypatch):
    monkeypatch.setattr("penstock_kube.client._PAGE", 3)
    for number in range(10):
        await client.apply(CONFIG_MAPS, {**config_map(f"page-{number}"), "metadata": labelled(f"page-{number}")})
    listing = await client.list(CONFIG_MAPS, "default", label_selector="paged=yes")
    assert [item["metadata"]["name"] for item in listing.items] == [f"page-{number}" for number in range(10)]
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}


def labelled(name):
    return {"namespace": "default", "name": name, "labels": {"paged": "yes"}}


async def test_what_the_server_refuses_names_the_field(client):
    with pytest.raises(InvalidError, match=r"metadata\.name"):
        await client.create(CONFIG_MAPS, config_map("Not_A_Name"))


async def test_rights_are_the_users_own(plane):
    async with KubeClient(Access(str(plane.kubeconfig("visitor"))), field_manager="visitor") as visitor:
        with pytest.raises(ForbiddenError, match="cannot list resource"):
            await visitor.list(CONFIG_MAPS)
        plane.grant("visitor", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]})
        for _ in range(50):  # the authorizer learns of a role by a watch of its own
            with contextlib.suppress(ForbiddenError):
                listing = await visitor.list(CONFIG_MAPS)
                break
            await asyncio.sleep(0.1)
        assert listing.resource_version


async def test_expired_credentials_are_read_again(plane):
    path = plane.kubeconfig("operator", token="expired")
    async with KubeClient(Access(str(path)), field_manager="operator") as client:
        with pytest.raises(UnauthorizedError):
            await client.list(CONFIG_MAPS)
        plane.kubeconfig("operator")  # the same file, with a token that holds
        with pytest.raises(ForbiddenError):
            await client.list(CONFIG_MAPS)


async def test_nobody_there_is_unreachable_and_retryable(plane):
    (port,) = free_ports(1)
    async with KubeClient(Access(str(plane.kubeconfig(port=port))), field_manager="x") as client:
        with pytest.raises(UnreachableError) as caught:
            await client.list(CONFIG_MAPS)
    assert caught.value.retryable


async def test_a_fence_stops_writes_and_lets_reads_pass(client):
    class Fallen:
        def remaining_s(self):
            raise NotLeaderError("not any more")

    fenced = client.fenced(Fallen())
    with pytest.raises(NotLeaderError):
        await fenced.apply(CONFIG_MAPS, config_map("fenced"))
    with pytest.raises(NotFoundError):
        await fenced.get(CONFIG_MAPS, "default", "fenced")
