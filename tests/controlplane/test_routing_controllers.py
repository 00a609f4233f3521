"""Routes, Tenants, accelerator classes and what gateways read, on a real API server."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import sys
import time

import pytest

from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock.catalog import accelerator_classes
from penstock.routing.keys import hash_key
from penstock.routing.published import CONFIG_KEY, CONFIG_MAP, decode_routing
from penstock_kube.client import KubeClient
from penstock_kube.clock import SystemClock
from penstock_kube.config import Access
from penstock_kube.errors import NotFoundError
from penstock_kube.resources import (
    ACCELERATOR_CLASSES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    LEASES,
    MODELS,
    NODES,
    ROUTES,
    SECRETS,
    TENANTS,
    Kind,
)
from penstock_operator.accelerator.build import build as build_accelerator
from penstock_operator.part import mirror
from penstock_operator.release.run import release
from penstock_operator.route.build import build as build_route
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.settings import Settings
from penstock_operator.tenant.build import build as build_tenant
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.typed import TypedWorld
from penstock_operator.world import Mirror, World
from tests.controlplane.test_crds import install

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]

RESOURCE_QUOTAS = Kind("", "v1", "ResourceQuota", "resourcequotas")
PEPPER = b"pepper of the platform"
KEY = "penstock.dev/api-keys"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def api(plane):
    for kind in CRD_KINDS:
        install(plane, custom_resource_definition(kind))
    return plane


class Operator:
    """The controllers of routing as one process has them, without an election."""

    def __init__(self, client, settings, *, only_classes=False):
        space = settings.watch_namespaces
        ours = {"models": MODELS, "classes": ACCELERATOR_CLASSES, "routes": ROUTES, "tenants": TENANTS}
        mirrors = {name: mirror(client, kind, space) for name, kind in ours.items()}
        unused = {field.name: Mirror(MODELS, ()) for field in dataclasses.fields(World) if field.name[0] != "_"}
        self.world = World(**(unused | mirrors))
        typed = TypedWorld.of(self.world)
        names, keyring = NameBook(typed.models, typed.routes), Keyring()
        shared = {"typed": typed, "names": names, "keyring": keyring, "publications": Publications()}
        self.parts = [build_accelerator(self.world, client, settings)]
        if only_classes:
            mirrors = {"classes": mirrors["classes"]}
        else:
            self.parts += [build(self.world, client, settings, **shared) for build in (build_route, build_tenant)]
        self.reflectors = [r for each in mirrors.values() for r in each.reflectors]
        self.reflectors += [r for part in self.parts for r in part.reflectors]

    async def run(self):
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run())
            for part in self.parts:
                for controller in part.controllers:
                    group.create_task(controller.run())


@contextlib.asynccontextmanager
async def running(operator):
    task = asyncio.create_task(operator.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def client(api):
    async with KubeClient(Access(str(api.kubeconfig())), field_manager="penstock-operator") as client:
        yield client


@pytest.fixture
def space(api, request):
    """A namespace of its own for each test, in which the operator works."""
    name = f"routing-{abs(hash(request.node.name)) % 10**8}"
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
async def operator(client, space, tmp_path):
    pepper = tmp_path / "pepper"
    pepper.write_bytes(PEPPER)
    settings = Settings(watch_namespaces=(space,), pepper_file=pepper)
    async with running(Operator(client, settings)):
        yield


async def eventually(look, within_s=20.0):
    """Wait until `look` returns something that is true, and return it."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(NotFoundError):
            if found := await look():
                return found
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.05)


async def routing(client, space):
    config_map = await client.get(CONFIG_MAPS, space, CONFIG_MAP)
    return decode_routing(config_map["data"][CONFIG_KEY])


async def until_ready(client, kind, space, name, reason):
    """Wait until an object's Ready has a reason, and return the condition."""

    async def look():
        obj = await client.get(kind, space, name)
        for condition in (obj.get("status") or {}).get("conditions") or ():
            fresh = condition["observedGeneration"] == obj["metadata"]["generation"]
            if condition["type"] == "Ready" and condition["reason"] == reason and fresh:
                return condition
        return None

    return await eventually(look)


async def apply(client, kind, space, name, spec):
    return await client.apply(kind, {"metadata": {"namespace": space, "name": name}, "spec": spec})


async def model(client, space, name):
    return await apply(client, MODELS, space, name, {"preset": "tiny-random", "accelerator": "cpu:1"})


async def secret(client, space, name, labelled=True, **entries):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    labels = {"labels": {KEY: "true"}} if labelled else {}
    await client.apply(SECRETS, {"metadata": {"namespace": space, "name": name, **labels}, "data": data})


def tenant_spec(**rest):
    return {"keys": [{"name": "main", "secretRef": {"name": "keys", "key": "main"}}], **rest}


async def hashes(client, space, name):
    return next(t.key_hashes for t in (await routing(client, space)).tenants if t.name == f"{space}/{name}")


@pytest.mark.usefixtures("operator")
async def test_models_routes_and_tenants_are_published(client, space):
    await model(client, space, "tiny")
    await apply(client, ROUTES, space, "chat", {"backends": [{"model": "tiny", "weight": 3}]})
    await secret(client, space, "keys", main="sk-one\n")
    await apply(client, TENANTS, space, "research", tenant_spec(requestsPerMinute=60))

    async def all_there():
        seen = await routing(client, space)
        return seen if seen.models and seen.routes and any(t.key_hashes for t in seen.tenants) else None

    seen = await eventually(all_there)
    assert [m.name for m in seen.models] == ["tiny"]
    assert [(r.name, r.backends[0].model, r.backends[0].weight) for r in seen.routes] == [("chat", "tiny", 3)]
    (tenant,) = seen.tenants
    assert tenant.name == f"{space}/research"
    assert tenant.key_hashes == (hash_key(PEPPER, "sk-one"),)
    assert tenant.allowed == ("chat", "tiny")
    assert tenant.requests_per_minute == 60
    ready = await until_ready(client, TENANTS, space, "research", "KeysFound")
    assert ready["message"] == "1 key works"


@pytest.mark.usefixtures("operator")
async def test_a_route_says_where_requests_go_and_that_nobody_answers_yet(client, space):
    await model(client, space, "old")
    await model(client, space, "new")
    spec = {"modelName": "gpt-3.5", "backends": [{"model": "old", "weight": 9}, {"model": "new"}]}
    await apply(client, ROUTES, space, "chat", spec)
    ready = await until_ready(client, ROUTES, space, "chat", "ModelsNotReady")
    assert "describe model old" in ready["message"]
    status = (await client.get(ROUTES, space, "chat"))["status"]
    assert (status["modelName"], status["backends"]) == ("gpt-3.5", "old=90%,new=10%")

    condition = {"type": "Ready", "status": "True", "reason": "ReplicasReady", "message": ""}
    condition |= {"observedGeneration": 1, "lastTransitionTime": "2026-11-24T00:00:00Z"}
    stands = {"metadata": {"namespace": space, "name": "old"}, "status": {"conditions": [condition]}}
    await client.apply(MODELS, stands, subresource="status")
    await until_ready(client, ROUTES, space, "chat", "Routed")


@pytest.mark.usefixtures("operator")
async def test_a_route_that_names_no_model_says_which_field_is_wrong(client, space):
    await model(client, space, "tiny")
    await apply(client, ROUTES, space, "chat", {"backends": [{"model": "tinny"}]})
    ready = await until_ready(client, ROUTES, space, "chat", "ModelNotFound")
    assert "spec.backends[0].model" in ready["message"]
    assert "tiny" in ready["message"]
    assert (await eventually(lambda: routing(client, space))).routes == ()
    await apply(client, ROUTES, space, "chat", {"backends": [{"model": "tiny"}]})
    await until_ready(client, ROUTES, space, "chat", "ModelsNotReady")


@pytest.mark.usefixtures("operator")
async def test_of_two_routes_that_claim_a_name_the_first_has_it_until_it_goes(client, space):
    await model(client, space, "tiny")
    spec = {"modelName": "gpt", "backends": [{"model": "tiny"}]}
    await apply(client, ROUTES, space, "a-first", spec)
    await asyncio.sleep(1.1)  # creation is told in whole seconds
    await apply(client, ROUTES, space, "a-early-name", spec)
    ready = await until_ready(client, ROUTES, space, "a-early-name", "NameTaken")
    assert f"belongs to Route {space}/a-first" in ready["message"]
    await until_ready(client, ROUTES, space, "a-first", "ModelsNotReady")
    assert [route.name for route in (await routing(client, space)).routes] == ["gpt"]

    await client.delete(ROUTES, space, "a-first")
    await until_ready(client, ROUTES, space, "a-early-name", "ModelsNotReady")


@pytest.mark.usefixtures("operator")
async def test_a_hand_edited_config_map_is_put_right_and_a_deleted_one_comes_back(client, space):
    await model(client, space, "tiny")
    await eventually(lambda: routing(client, space))
    await client.merge_patch(CONFIG_MAPS, space, CONFIG_MAP, {"data": {CONFIG_KEY: '{"models": []}'}})

    async def right():
        return [m.name for m in (await routing(client, space)).models] == ["tiny"]

    await eventually(right)
    await client.delete(CONFIG_MAPS, space, CONFIG_MAP)
    await eventually(right)

    await client.delete(MODELS, space, "tiny")

    async def gone():
        try:
            await client.get(CONFIG_MAPS, space, CONFIG_MAP)
        except NotFoundError:
            return True
        return False

    await eventually(gone)


@pytest.mark.usefixtures("operator")
async def test_a_labelled_secret_that_is_rotated_counts_at_once_and_the_tenant_never_vanishes(client, space):
    await secret(client, space, "keys", main="sk-old")
    await apply(client, TENANTS, space, "research", tenant_spec())
    await until_ready(client, TENANTS, space, "research", "KeysFound")
    old, new = hash_key(PEPPER, "sk-old"), hash_key(PEPPER, "sk-new")

    async def has_old():
        return await hashes(client, space, "research") == (old,)

    await eventually(has_old)
    await secret(client, space, "keys", main="sk-new")

    async def has_new():
        return await hashes(client, space, "research") == (new,)

    await eventually(has_new, within_s=5.0)

    await client.delete(SECRETS, space, "keys")
    await until_ready(client, TENANTS, space, "research", "SecretNotFound")

    async def has_none():
        return await hashes(client, space, "research") == ()

    await eventually(has_none, within_s=5.0)


@pytest.mark.usefixtures("operator")
async def test_each_fault_of_a_key_is_told_with_its_remedy(client, space):
    await apply(client, TENANTS, space, "research", tenant_spec())
    ready = await until_ready(client, TENANTS, space, "research", "SecretNotFound")
    assert f"kubectl -n {space} create secret generic keys --from-literal=main=KEY" in ready["message"]
    await secret(client, space, "keys", other="sk-x")
    ready = await until_ready(client, TENANTS, space, "research", "SecretKeyNotFound")
    assert "(it has other)" in ready["message"]
    await secret(client, space, "keys", main=" \n")
    await until_ready(client, TENANTS, space, "research", "EmptyKey")
    await secret(client, space, "keys", main="one two")
    await until_ready(client, TENANTS, space, "research", "UnusableKey")
    await secret(client, space, "keys", main="sk-mine")
    await until_ready(client, TENANTS, space, "research", "KeysFound")

    await asyncio.sleep(1.1)
    await apply(client, TENANTS, space, "a-thief", tenant_spec(allowedRoutes=["nothing"]))
    ready = await until_ready(client, TENANTS, space, "a-thief", "DuplicateKey")
    assert f"Tenant {space}/research has the same key" in ready["message"]
    assert "spec.allowedRoutes[0]" in ready["message"]
    assert await hashes(client, space, "research") == (hash_key(PEPPER, "sk-mine"),)
    assert (await client.get(TENANTS, space, "a-thief"))["status"]["keys"] == 0


@pytest.mark.usefixtures("operator")
async def test_a_secret_without_the_label_works_and_says_when_it_is_read_again(client, space):
    await secret(client, space, "keys", labelled=False, main="sk-quiet")
    await apply(client, TENANTS, space, "research", tenant_spec())
    ready = await until_ready(client, TENANTS, space, "research", "KeysFound")
    assert f"kubectl -n {space} label secret keys {KEY}=true" in ready["message"]
    assert "every 5 minutes" in ready["message"]
    await secret(client, space, "keys", labelled=True, main="sk-loud")  # the label counts at once too

    async def loud():
        return await hashes(client, space, "research") == (hash_key(PEPPER, "sk-loud"),)

    await eventually(loud)


async def test_a_change_of_leader_withdraws_no_key(client, space, tmp_path):
    pepper = tmp_path / "pepper"
    pepper.write_bytes(PEPPER)
    settings = Settings(watch_namespaces=(space,), pepper_file=pepper)
    await secret(client, space, "keys", labelled=False, main="sk-stays")
    await apply(client, TENANTS, space, "research", tenant_spec())
    async with running(Operator(client, settings)):
        await until_ready(client, TENANTS, space, "research", "KeysFound")

        async def published():
            return await hashes(client, space, "research")

        await eventually(published)
    version = (await client.get(CONFIG_MAPS, space, CONFIG_MAP))["metadata"]["resourceVersion"]
    without = settings.model_copy(update={"pepper_file": None})
    async with running(Operator(client, without)):  # a leader that can read no key
        await until_ready(client, TENANTS, space, "research", "NoPepper")
        await asyncio.sleep(0.5)
    async with running(Operator(client, settings)):
        await until_ready(client, TENANTS, space, "research", "KeysFound")
        await asyncio.sleep(0.5)
    assert (await client.get(CONFIG_MAPS, space, CONFIG_MAP))["metadata"]["resourceVersion"] == version


@pytest.mark.usefixtures("operator")
async def test_what_keeps_gateways_from_knowing_is_said_until_it_is_gone(client, space):
    await secret(client, space, "keys", main="sk-1")
    quota = {"metadata": {"namespace": space, "name": "full"}, "spec": {"hard": {"count/configmaps": "0"}}}
    await client.apply(RESOURCE_QUOTAS, quota)
    used = {"status": {"hard": {"count/configmaps": "0"}, "used": {"count/configmaps": "0"}}}
    await client.merge_patch(RESOURCE_QUOTAS, space, "full", used, subresource="status")
    await apply(client, TENANTS, space, "research", tenant_spec())
    ready = await until_ready(client, TENANTS, space, "research", "NotPublished")
    assert "exceeded quota: full" in ready["message"]
    await client.delete(RESOURCE_QUOTAS, space, "full")
    await until_ready(client, TENANTS, space, "research", "KeysFound")


async def test_the_catalog_comes_in_and_edits_outlive_the_next_start(client):
    settings = Settings()
    async with running(Operator(client, settings)):
        for entry in accelerator_classes():
            await eventually(lambda name=entry.name: client.get(ACCELERATOR_CLASSES, "", name))
    # What a person does: a price of their own, a class they do not want, one they define themselves.
    await client.merge_patch(ACCELERATOR_CLASSES, "", "nvidia-h100", {"spec": {"price": {"onDemandPerHour": "3.33"}}})
    # What an older release left: a figure that this release has another one for.
    stored = await client.get(ACCELERATOR_CLASSES, "", "nvidia-l4")
    old = {"annotations": {"penstock.dev/catalog": stored["metadata"]["annotations"]["penstock.dev/catalog"]}}
    old["annotations"]["penstock.dev/catalog"] = old["annotations"]["penstock.dev/catalog"].replace('"300G"', '"299G"')
    await client.merge_patch(
        ACCELERATOR_CLASSES, "", "nvidia-l4", {"metadata": old, "spec": {"memoryBandwidth": "299G"}}
    )
    async with running(Operator(client, settings)):

        async def newer():
            obj = await client.get(ACCELERATOR_CLASSES, "", "nvidia-l4")
            return obj["spec"]["memoryBandwidth"] == "300G"

        await eventually(newer)
        h100 = await client.get(ACCELERATOR_CLASSES, "", "nvidia-h100")
        assert h100["spec"]["price"]["onDemandPerHour"] == "3.33"


async def test_six_lines_find_their_class_on_a_fresh_install_and_its_nodes_are_counted(client, space):
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    await client.apply(NODES, {"metadata": {"name": f"gpu-{space}", "labels": labels}})
    ready = {"type": "Ready", "status": "True"}
    status = {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [ready]}
    await client.merge_patch(NODES, "", f"gpu-{space}", {"status": status}, subresource="status")
    try:
        async with running(Operator(client, Settings())):
            model = await apply(
                client,
                MODELS,
                space,
                "llama-3-1-8b",
                {"source": "hf://meta-llama/Llama-3.1-8B-Instruct", "accelerator": "nvidia-h100:1"},
            )
            name = model["spec"]["accelerator"].partition(":")[0]
            # The API server taints a node until its health is known; the controller that looks is not part of it.
            await until_ready(client, ACCELERATOR_CLASSES, "", name, "NodesNotReady")
            await client.merge_patch(NODES, "", f"gpu-{space}", {"spec": {"taints": None}})
            ready = await until_ready(client, ACCELERATOR_CLASSES, "", name, "NodesFound")
            assert ready["message"] == "8 nvidia.com/gpu on 1 node"
            seen = (await client.get(ACCELERATOR_CLASSES, "", name))["status"]
            assert (seen["nodes"], seen["allocatable"]) == (1, 8)
            assert seen["discovered"][0]["value"] == "NVIDIA-H100-80GB-HBM3"
            other = await until_ready(client, ACCELERATOR_CLASSES, "", "nvidia-l4", "OtherAccelerators")
            assert "set spec.nodeSelector" in other["message"]
            await client.delete(NODES, "", f"gpu-{space}")
            await until_ready(client, ACCELERATOR_CLASSES, "", name, "NoNodes")
    finally:
        await client.delete(NODES, "", f"gpu-{space}")


async def test_an_operator_without_the_right_to_read_nodes_says_so(api, space):
    group = "rbac.authorization.k8s.io"
    verbs = ["get", "list", "watch", "create", "patch"]
    rules = [
        {"apiGroups": ["penstock.dev"], "resources": ["acceleratorclasses"], "verbs": verbs},
        {"apiGroups": ["penstock.dev"], "resources": ["acceleratorclasses/status"], "verbs": ["patch"]},
    ]
    api.call("POST", f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "operator"}})
    api.call("POST", f"/apis/{group}/v1/clusterroles", {"metadata": {"name": space}, "rules": rules})
    binding = {
        "metadata": {"name": space},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": space},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": space}],
    }
    api.call("POST", f"/apis/{group}/v1/clusterrolebindings", binding)
    config = api.kubeconfig("operator", token=api.service_account_token(space, "operator"), port=api.port)
    async with KubeClient(Access(str(config)), field_manager="penstock-operator") as limited:
        operator = Operator(limited, Settings(), only_classes=True)
        async with running(operator):
            ready = await until_ready(limited, ACCELERATOR_CLASSES, "", "nvidia-l40s", "NodesNotRead")
            assert ready["status"] == "Unknown"
            await until_ready(limited, ACCELERATOR_CLASSES, "", "cpu", "PriceNotFound")


async def held_model(client, space, name):
    metadata = {"namespace": space, "name": name, "finalizers": ["penstock.dev/drain", "example.com/other"]}
    spec = {"preset": "tiny-random", "accelerator": "cpu:1"}
    await client.apply(MODELS, {"metadata": metadata, "spec": spec})


async def release_command(api, space, *arguments):
    """Run what the chart's hook runs; return its exit code and output."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(api.kubeconfig()),
        "PENSTOCK_OPERATOR_NAMESPACE": space,
        "PENSTOCK_OPERATOR_WATCH_NAMESPACES": json.dumps([space]),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "penstock_operator.release", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_release_hook_stops_the_operator_and_lets_models_go(api, client, space):
    await held_model(client, space, "one")
    await held_model(client, space, "two")
    await client.delete(MODELS, space, "two")  # waits for its finalizers
    labels = {"app": "operator"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "o", "image": "o"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    await client.apply(DEPLOYMENTS, {"metadata": {"namespace": space, "name": "penstock-operator"}, "spec": spec})
    lease = {"metadata": {"namespace": space, "name": "penstock-operator"}}
    await client.apply(LEASES, {**lease, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 1}})
    settings, said = Settings(namespace=space, watch_namespaces=(space,)), []

    code, output = await release_command(api, space, "--dry-run")
    assert (code, f"would let 2 Models go: {space}/one, {space}/two" in output) == (0, True)
    assert await release(client, settings, SystemClock(), said.append, dry_run=True)
    assert f"would let 2 Models go: {space}/one, {space}/two" in said
    assert "penstock.dev/drain" in (await client.get(MODELS, space, "one"))["metadata"]["finalizers"]

    said.clear()
    assert await release(client, settings, SystemClock(), said.append)
    assert (await client.get(DEPLOYMENTS, space, "penstock-operator"))["spec"]["replicas"] == 0
    for name in ("one", "two"):
        model = await client.get(MODELS, space, name)
        assert model["metadata"]["finalizers"] == ["example.com/other"], "others' are not ours to remove"
        await client.merge_patch(MODELS, space, name, {"metadata": {"finalizers": []}})
    assert f"let 2 Models go: {space}/one, {space}/two" in said
    assert "no RayCluster runs" in said, "KubeRay is not even installed here"

    said.clear()
    await client.delete(DEPLOYMENTS, space, "penstock-operator")
    await client.delete(LEASES, space, "penstock-operator")
    await client.delete(MODELS, space, "one")
    code, output = await release_command(api, space)
    assert code == 0, "it may run where nothing is left"
    assert "no RayCluster runs" in output
