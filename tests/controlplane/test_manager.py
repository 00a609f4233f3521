"""A whole small operator on a real control plane: finalizer, apply, status, clean-up, restarts."""

import asyncio
import contextlib
import time

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from penstock_kube.client import KubeClient
from penstock_kube.clock import Backoff
from penstock_kube.config import Access
from penstock_kube.errors import NotFoundError
from penstock_kube.events import EventRecorder
from penstock_kube.lease import LeaderElector, LeaseSettings
from penstock_kube.reflector import Reflector
from penstock_kube.resources import CONFIG_MAPS, EVENTS, SECRETS
from penstock_operator.runtime.controller import Controller, Result
from penstock_operator.runtime.finalizers import add_finalizer, has_finalizer, is_deleting, remove_finalizer
from penstock_operator.runtime.manager import Manager
from penstock_operator.runtime.metrics import RuntimeMetrics

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]

FINALIZER = "test.penstock.dev/copy"
NAMESPACE = "copies"


class Copier:
    """Keeps a Secret beside each ConfigMap of a namespace, and removes it before the ConfigMap goes."""

    def __init__(self, client):
        self.registry = CollectorRegistry()
        metrics = RuntimeMetrics(self.registry)
        elector = LeaderElector(client, LeaseSettings(NAMESPACE, "copier", "one", 4, 3.0, 0.5))
        self.client = client.fenced(elector)
        self.recorder = EventRecorder(self.client, component="copier", instance="one")
        quick = Backoff(base_s=0.1, cap_s=1.0)
        self.sources = Reflector(
            client, CONFIG_MAPS, namespace=NAMESPACE, label_selector="copy=yes", backoff=quick, observer=metrics
        )
        self.copies = Reflector(client, SECRETS, namespace=NAMESPACE, backoff=quick, observer=metrics)
        controller = Controller("copier", self.reconcile, observer=metrics)
        controller.watch(self.sources)
        controller.watch(self.copies)  # a copy has its source's name
        self.manager = Manager(
            reflectors=[self.sources, self.copies],
            controllers=[controller],
            elector=elector,
            recorder=self.recorder,
            metrics=metrics,
            registry=self.registry,
            health_host="127.0.0.1",
            health_port=0,
        )

    async def reconcile(self, key):
        source = self.sources.store.get(*key)
        if source is None:
            return Result()
        if is_deleting(source):
            if has_finalizer(source, FINALIZER):
                await self.client.delete(SECRETS, *key)
                await remove_finalizer(self.client, CONFIG_MAPS, source, FINALIZER)
            return Result()
        await add_finalizer(self.client, CONFIG_MAPS, source, FINALIZER)
        copy = self.copies.store.get(*key)
        if copy is None or copy.get("data") != source.get("data"):
            metadata = {"namespace": key.namespace, "name": key.name}
            await self.client.apply(SECRETS, {"metadata": metadata, "data": source.get("data") or {}})
            self.recorder.note({**source, **KIND}, "Normal", "Copied", "the copy is current")
        return Result()


KIND = {"apiVersion": "v1", "kind": "ConfigMap"}


async def eventually(look, within_s=30.0):
    """Wait until `look` returns something that is true, and return it."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(NotFoundError):
            if found := await look():
                return found
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.05)


@pytest.fixture
async def admin(breakable):
    with contextlib.suppress(RuntimeError):
        breakable.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    async with KubeClient(Access(str(breakable.kubeconfig())), field_manager="admin") as admin:
        yield admin


@pytest.fixture
async def copier(breakable, admin):
    async with KubeClient(Access(str(breakable.kubeconfig())), field_manager="copier") as client:
        copier = Copier(client)
        task = asyncio.create_task(copier.manager.run())
        yield copier
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def source(name, **data):
    return {"metadata": {"namespace": NAMESPACE, "name": name, "labels": {"copy": "yes"}}, "data": data}


async def copied(admin, name, data):
    secret = await admin.get(SECRETS, NAMESPACE, name)
    return secret.get("data") == data


async def test_wanted_and_real_become_equal_and_stay_so(copier, admin):
    await admin.apply(CONFIG_MAPS, source("a", key="MQ=="))
    await eventually(lambda: copied(admin, "a", {"key": "MQ=="}))
    await admin.merge_patch(SECRETS, NAMESPACE, "a", {"data": {"key": "Mg=="}})  # an edit by hand
    await eventually(lambda: copied(admin, "a", {"key": "MQ=="}))
    await admin.delete(SECRETS, NAMESPACE, "a")
    await eventually(lambda: copied(admin, "a", {"key": "MQ=="}))

    async def event():
        events = await admin.list(EVENTS, NAMESPACE, field_selector="involvedObject.name=a,reason=Copied")
        return events.items

    (item,) = await eventually(event)
    assert item["source"] == {"component": "copier"}


async def test_the_clean_up_is_done_before_the_object_goes(copier, admin):
    await admin.apply(CONFIG_MAPS, source("b", key="MQ=="))
    await eventually(lambda: copied(admin, "b", {"key": "MQ=="}))
    await admin.delete(CONFIG_MAPS, NAMESPACE, "b")

    async def gone():
        names = [item["metadata"]["name"] for item in (await admin.list(CONFIG_MAPS, NAMESPACE)).items]
        return "b" not in names

    await eventually(gone)
    with pytest.raises(NotFoundError):
        await admin.get(SECRETS, NAMESPACE, "b")


async def test_an_api_server_that_restarts_is_waited_for(copier, admin, breakable):
    await admin.apply(CONFIG_MAPS, source("c", key="MQ=="))
    await eventually(lambda: copied(admin, "c", {"key": "MQ=="}))
    await asyncio.to_thread(breakable.restart_apiserver, kill=True)
    await admin.apply(CONFIG_MAPS, source("c", key="Mg=="))
    await eventually(lambda: copied(admin, "c", {"key": "Mg=="}))
    restarts = sum(
        sample.value
        for metric in copier.registry.collect()
        for sample in metric.samples
        if sample.name == "penstock_operator_watch_restarts_total"
    )
    assert restarts >= 2


async def test_probes_follow_the_mirrors(copier, admin):
    await asyncio.wait_for(copier.sources.wait_synced(), 20)
    await asyncio.wait_for(copier.copies.wait_synced(), 20)
    url = f"http://127.0.0.1:{copier.manager.bound_port}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/readyz")).text == "ok"
        assert "penstock_operator_queue_depth" in (await client.get("/metrics")).text
