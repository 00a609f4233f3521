"""The definitions on a real API server: accepted, enforced, defaulted, shown and moved to a next version."""

import copy
import re
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from penstock.api import parse_resource
from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock.api.crd.rules import RULES
from tests.support import binaries
from tests.unit.crd.cases import CASES, MODEL, ROUTE, resource

pytestmark = pytest.mark.controlplane

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"


def collection(kind, version="v1alpha1", namespace="default"):
    names = CRD_KINDS[kind]
    inside = f"/namespaces/{namespace}" if names.resource.NAMESPACED else ""
    return f"/apis/penstock.dev/{version}{inside}/{names.plural}"


def install(plane, definition):
    """Apply a definition and wait until the API server serves it."""
    plane.apply(DEFINITIONS, definition)
    name = definition["metadata"]["name"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        conditions = plane.call("GET", f"{DEFINITIONS}/{name}").get("status", {}).get("conditions") or []
        states = {condition["type"]: condition for condition in conditions}
        if states.get("Established", {}).get("status") == "True":
            assert states["NamesAccepted"]["status"] == "True"
            assert "NonStructuralSchema" not in states
            return
        time.sleep(0.1)
    pytest.fail(f"{name} was not established")


@pytest.fixture(scope="module")
def api(plane):
    """The control plane with our definitions."""
    for kind in CRD_KINDS:
        install(plane, custom_resource_definition(kind))
    for kind in CRD_KINDS:  # what is established is not yet served
        eventually(partial(plane.call, "GET", collection(kind)))
    return plane


def dry_run(api, body):
    return api.apply(collection(body["kind"]), body, dry_run=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_keeps_a_rule_is_accepted(api, case):
    dry_run(api, resource(case.kind, case.kept))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_breaks_a_rule_is_refused_with_its_remedy(api, case):
    with pytest.raises(RuntimeError) as caught:
        dry_run(api, resource(case.kind, case.broken, case.name))
    status = yaml.safe_load(str(caught.value).split(": 422 ", 1)[1])
    rule = RULES[case.place][case.number]
    wording = re.sub("%[sd]", ".*", re.escape(rule.message))
    field = re.escape(case.place + rule.field).replace(re.escape("[]"), r"\[\d+\]").removeprefix(f"{case.kind}\\.")
    causes = [c for c in status["details"]["causes"] if re.search(wording, c["message"])]
    assert causes, status["message"]
    assert case.shown in causes[0]["message"]
    assert case.remedy in causes[0]["message"]
    assert case.place == case.kind or re.fullmatch(field, causes[0]["field"])


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_samples_are_accepted_with_strict_validation(api, path):
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] not in CRD_KINDS:
            continue
        stored = api.call(
            "PATCH",
            f"{collection(document['kind'])}/{document['metadata']['name']}"
            "?fieldManager=test&force=true&dryRun=All&fieldValidation=Strict",
            document,
            kind="application/apply-patch+yaml",
        )
        parse_resource(stored)


def test_six_lines_make_a_model_that_the_types_read_back_with_its_defaults(api):
    stored = dry_run(api, resource("Model", MODEL))
    assert stored["spec"]["replicas"] == 1
    assert stored["spec"]["scaling"]["targetPressure"] == "0.85"
    read = parse_resource(stored)
    given = parse_resource(resource("Model", MODEL))
    assert read.spec == given.spec


def test_unknown_fields_are_named(api):
    body = resource("Model", {**MODEL, "contextLenght": 4096})
    with pytest.raises(RuntimeError, match=r'unknown field \\?"spec.contextLenght'):
        api.call("POST", f"{collection('Model')}?fieldValidation=Strict&dryRun=All", body)


def test_a_list_with_a_repeated_key_is_refused(api):
    body = resource("Route", {"backends": [{"model": "a"}, {"model": "a"}]})
    with pytest.raises(RuntimeError, match=r"spec.backends\[1\].*Duplicate value"):
        api.call("POST", f"{collection('Route')}?dryRun=All", body)


def test_the_pod_template_keeps_what_it_is_given(api):
    template = {"spec": {"hostNetwork": True, "containers": [{"name": "engine", "securityContext": {"a": 1}}]}}
    assert dry_run(api, resource("Model", {**MODEL, "podTemplate": template}))["spec"]["podTemplate"] == template


def test_the_task_of_a_model_stays(api):
    api.apply(collection("Model"), resource("Model", MODEL, "fixed"))
    api.apply(collection("Model"), resource("Model", {**MODEL, "task": "Generate", "contextLength": 4096}, "fixed"))
    with pytest.raises(RuntimeError, match=r"task is fixed.*create another Model"):
        api.apply(collection("Model"), resource("Model", {**MODEL, "task": "Embed"}, "fixed"))


def test_replicas_scale_by_the_subresource_within_the_bounds(api):
    api.apply(collection("Model"), resource("Model", {**MODEL, "scaling": {"maxReplicas": 4}}, "scaled"))
    path = f"{collection('Model')}/scaled"
    merge = "application/merge-patch+json"
    api.call("PATCH", f"{path}/status", {"status": {"replicas": 1, "selector": "app=scaled"}}, kind=merge)
    scale = api.call("PATCH", f"{path}/scale", {"spec": {"replicas": 3}}, kind=merge)
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 1, "selector": "app=scaled"}
    assert api.call("GET", path)["spec"]["replicas"] == 3
    with pytest.raises(RuntimeError, match=r"set scaling\.maxReplicas to 5"):
        api.call("PATCH", f"{path}/scale", {"spec": {"replicas": 5}}, kind=merge)


def test_status_and_spec_are_written_apart(api):
    path = f"{collection('Route')}/apart"
    api.apply(collection("Route"), {**resource("Route", ROUTE, "apart"), "status": {"modelName": "sneaked in"}})
    assert "status" not in api.call("GET", path)
    written = {"status": {"modelName": "apart"}, "spec": {"modelName": "sneaked in"}}
    api.call("PATCH", f"{path}/status", written, kind="application/merge-patch+json")
    stored = api.call("GET", path)
    assert stored["status"] == {"modelName": "apart"}
    assert "modelName" not in stored["spec"]


def kubectl(api, *arguments):
    command = [
        str(binaries.find("kubectl")),
        f"--kubeconfig={api.kubeconfig()}",
        "--cache-dir",
        str(api.folder / "cache"),
    ]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_kubectl_shows_the_columns(api):
    api.apply(collection("Model"), resource("Model", MODEL, "shown"))
    status = {
        "ready": "2/2",
        "load": {"kvCachePercent": 61, "queuedRequests": 3, "timeToFirstToken": "312ms"},
        "cost": {"perMillionTokens": "0.42", "idlePercent": 17},
        "why": "KV-bound",
    }
    path = f"{collection('Model')}/shown/status"
    api.call("PATCH", path, {"status": status}, kind="application/merge-patch+json")
    header, row = kubectl(api, "get", "pmodel", "shown").splitlines()
    assert header.split() == ["NAME", "READY", "KV%", "QUEUE", "P95-TTFT", "$/MTOK", "IDLE%", "WHY", "AGE"]
    assert row.split()[:-1] == ["shown", "2/2", "61", "3", "312ms", "0.42", "17", "KV-bound"]
    assert "model.penstock.dev/shown" in kubectl(api, "get", "penstock", "-o", "name")


def test_kubectl_explains_fields(api):
    text = kubectl(api, "explain", "models.penstock.dev.spec.scaling")
    assert "How the number of replicas follows the load." in text
    assert "minReplicas" in text
    assert "Wanted ratio of demand to capacity" in text


def test_a_next_version_takes_over(api):
    """The way to v1beta1: serve both, store the new one, write every object again, drop the old one."""
    definition = custom_resource_definition("Tenant")
    api.apply(collection("Tenant"), resource("Tenant", {"priority": 5}, "moved"))
    alpha = definition["spec"]["versions"][0]
    beta = {**copy.deepcopy(alpha), "name": "v1beta1"}
    install(api, with_versions(definition, alpha, {**beta, "storage": False}))
    served(api, "v1beta1")
    assert api.call("GET", f"{collection('Tenant', 'v1beta1')}/moved")["spec"]["priority"] == 5

    install(api, with_versions(definition, {**alpha, "storage": False, "deprecated": True}, beta))
    for item in api.call("GET", collection("Tenant", "v1beta1"))["items"]:
        path = f"{collection('Tenant', 'v1beta1')}/{item['metadata']['name']}"
        api.call("PUT", path, api.call("GET", path))
    name = definition["metadata"]["name"]
    stored = {"status": {"storedVersions": ["v1beta1"]}}
    api.call("PATCH", f"{DEFINITIONS}/{name}/status", stored, kind="application/merge-patch+json")
    install(api, with_versions(definition, beta))
    assert api.call("GET", f"{collection('Tenant', 'v1beta1')}/moved")["spec"]["priority"] == 5

    api.call("DELETE", f"{DEFINITIONS}/{name}")
    eventually(lambda: install(api, custom_resource_definition("Tenant")))  # as the other tests know it
    served(api, "v1alpha1")


def with_versions(definition, *versions):
    return {**definition, "spec": {**definition["spec"], "versions": list(versions)}}


def served(api, version):
    """Wait until a version of Tenant answers."""
    eventually(lambda: api.call("GET", collection("Tenant", version)))


def eventually(call, within_s=20.0):
    """Repeat a call until the API server accepts it."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return call()
        except RuntimeError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
