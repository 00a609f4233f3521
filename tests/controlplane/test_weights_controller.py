"""Downloads of weights on a real API server: the Job that it takes, progress from its pod, failure, and clean-up."""

import asyncio
import contextlib
import dataclasses
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock_kube.client import KubeClient
from penstock_kube.clock import SystemClock
from penstock_kube.config import Access
from penstock_kube.resources import ACCELERATOR_CLASSES, DAEMON_SETS, JOBS, MODELS, PODS, Key
from penstock_operator.part import mirror
from penstock_operator.pool.names import MANAGED_SELECTOR
from penstock_operator.settings import RayOptions, Settings
from penstock_operator.typed import TypedWorld
from penstock_operator.weights import build as weights_build
from penstock_operator.weights.plan import WEIGHTS_LABEL
from penstock_operator.world import Mirror, World
from tests.controlplane.test_crds import install

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]

NAMESPACE = "weights"
KEY = Key(NAMESPACE, "llama")


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def api(plane):
    for kind in CRD_KINDS:
        install(plane, custom_resource_definition(kind))
    plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    # No controller-manager runs here, which would make it.
    plane.call("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
    return plane


@pytest.fixture
def told():
    """What a pod on this machine says of its progress."""
    progress = {"body": b'{"uri": "hf://acme/llama", "done_bytes": 12345678901, "total_bytes": 16061000000}'}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(progress["body"])

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


class Bench:
    def __init__(self, client, port, monkeypatch):
        self.client = client
        settings = Settings(watch_namespaces=(NAMESPACE,), ray=RayOptions(cache_claim="weights"))
        unused = {field.name: Mirror(MODELS, ()) for field in dataclasses.fields(World) if field.name[0] != "_"}
        mirrors = {
            "models": mirror(client, MODELS, [NAMESPACE]),
            "pods": mirror(client, PODS, [NAMESPACE], label_selector=MANAGED_SELECTOR),
        }
        world = World(**(unused | mirrors))
        monkeypatch.setattr("penstock_operator.weights.controller.LOOK_S", 0.2)
        built = weights_build.build(world, client, settings, TypedWorld.of(world).models, clock=SystemClock())
        self.weights = built.controller
        self.weights._port = port
        self.work = [controller.run for controller in built.part.controllers]
        self.work += [r.run for each in (*mirrors.values(), *built.part.mirrors) for r in each.reflectors]

    async def until(self, check, within_s=10.0):
        deadline_s = time.monotonic() + within_s
        while True:
            if found := await check():
                return found
            assert time.monotonic() < deadline_s, self.weights.conditions(KEY)
            await asyncio.sleep(0.05)

    async def job(self):
        return next(iter((await self.client.list(JOBS, NAMESPACE)).items), None)

    async def said(self, reason, text=""):
        async def check():
            return any(item.reason == reason and text in item.message for item in self.weights.conditions(KEY))

        await self.until(check)

    async def status(self, kind, name, status):
        await self.client.merge_patch(kind, NAMESPACE, name, {"status": status}, subresource="status")


@pytest.fixture
async def bench(api, told, monkeypatch):
    async with KubeClient(Access(str(api.kubeconfig())), field_manager="penstock-operator") as client:
        bench = Bench(client, told, monkeypatch)
        tasks = [asyncio.create_task(work()) for work in bench.work]
        yield bench
        await client.delete(MODELS, *KEY)
        await bench.until(lambda: _none(bench))
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await bench.weights.close()


async def _none(bench):
    return await bench.job() is None


async def create(bench):
    spec = {"source": "hf://acme/llama", "accelerator": "nvidia-h100:1"}
    await bench.client.create(MODELS, {"metadata": {"namespace": NAMESPACE, "name": "llama"}, "spec": spec})
    return await bench.until(bench.job)


async def test_the_api_server_takes_the_job_and_progress_becomes_a_condition(bench):
    job = await create(bench)
    assert job["spec"]["podFailurePolicy"]["rules"][0]["action"] == "FailJob"
    await bench.said("Downloading", "a pod starts")
    template = job["spec"]["template"]
    labels = {**template["metadata"]["labels"], "job-name": job["metadata"]["name"]}
    pod = {"metadata": {"namespace": NAMESPACE, "name": "fetch-1", "labels": labels}, "spec": template["spec"]}
    await bench.client.create(PODS, pod)
    await bench.status(PODS, "fetch-1", {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})
    await bench.said("Downloading", "12.3 of 16.1 GB")
    now = "2026-11-24T12:00:00Z"
    done = [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]
    done = [{**condition, "lastTransitionTime": now} for condition in done]
    status = {"conditions": done, "startTime": now, "completionTime": now, "succeeded": 1}
    await bench.status(JOBS, job["metadata"]["name"], status)
    await bench.said("Downloaded")
    await bench.client.delete(PODS, NAMESPACE, "fetch-1")


async def test_a_job_that_somebody_deletes_is_made_again(bench):
    job = await create(bench)
    await bench.client.delete(JOBS, NAMESPACE, job["metadata"]["name"])

    async def made_again():
        found = await bench.job()
        return found is not None and found["metadata"]["uid"] != job["metadata"]["uid"]

    await bench.until(made_again)


async def test_a_model_that_goes_takes_its_download_along(bench):
    job = await create(bench)
    assert WEIGHTS_LABEL in job["metadata"]["labels"]
    await bench.client.delete(MODELS, *KEY)

    async def gone_and_forgotten():
        return await bench.job() is None and bench.weights.conditions(KEY) == ()

    await bench.until(gone_and_forgotten)


def test_nothing_is_downloaded_ahead_without_a_claim():
    unused = {field.name: Mirror(MODELS, ()) for field in dataclasses.fields(World) if field.name[0] != "_"}
    world = World(**unused)
    assert weights_build.build(world, None, Settings(), TypedWorld.of(world).models) is None


async def test_images_are_pulled_where_a_class_selects_nodes_and_no_longer_than_a_model_needs_them(api):
    async with KubeClient(Access(str(api.kubeconfig())), field_manager="penstock-operator") as client:
        unused = {field.name: Mirror(MODELS, ()) for field in dataclasses.fields(World) if field.name[0] != "_"}
        mirrors = {
            "models": mirror(client, MODELS, [NAMESPACE]),
            "classes": mirror(client, ACCELERATOR_CLASSES, ()),
        }
        world = World(**(unused | mirrors))
        settings = Settings(namespace=NAMESPACE, watch_namespaces=(NAMESPACE,))
        part = weights_build.build_images(world, client, settings, TypedWorld.of(world).models)
        work = [controller.run for controller in part.controllers]
        work += [r.run for each in (*mirrors.values(), *part.mirrors) for r in each.reflectors]
        tasks = [asyncio.create_task(each()) for each in work]
        spec = {"vendor": "nvidia", "memory": "80Gi", "nodeSelector": {"gpu": "tried"}}
        await client.create(ACCELERATOR_CLASSES, {"metadata": {"name": "pulled"}, "spec": spec})
        spec = {"source": "file:///x", "accelerator": "pulled:1"}
        await client.create(MODELS, {"metadata": {"namespace": NAMESPACE, "name": "llama"}, "spec": spec})

        async def count():
            return len((await client.list(DAEMON_SETS, NAMESPACE)).items)

        await _reaches(count, 1)
        await client.delete(MODELS, *KEY)
        await _reaches(count, 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.delete(ACCELERATOR_CLASSES, "", "pulled")


async def _reaches(count, wanted, within_s=15.0):
    deadline_s = time.monotonic() + within_s
    while (found := await count()) != wanted:
        assert time.monotonic() < deadline_s, found
        await asyncio.sleep(0.05)
