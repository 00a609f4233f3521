"""What the chart renders: whole, accepted by an API server, and what the processes expect."""

import json
import subprocess
from collections import Counter

import pytest
import yaml

from penstock_gateway.settings import Settings as GatewaySettings
from penstock_operator.ledger.settings import Settings as LedgerSettings
from penstock_operator.settings import Settings as OperatorSettings
from tests.support import binaries
from tests.support.chart import CHART, PERMUTATIONS, Helm, workloads

pytestmark = pytest.mark.controlplane

FOREIGN = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
"""Kinds whose definitions are not ours and not on the tests' API server."""
NAMESPACE = "chart-render"
SETTINGS = {
    "PENSTOCK_GATEWAY_": GatewaySettings,
    "PENSTOCK_OPERATOR_": OperatorSettings,
    "PENSTOCK_LEDGER_": LedgerSettings,
}


@pytest.fixture(scope="module")
def helm(tmp_path_factory):
    return Helm(tmp_path_factory.mktemp("helm"))


def values_of(file):
    return ("--values", str(file))


@pytest.fixture(params=[(), *map(values_of, PERMUTATIONS)], ids=["defaults", *(file.stem for file in PERMUTATIONS)])
def arguments(request):
    return request.param


@pytest.fixture
def objects(helm, arguments):
    return helm.render(*arguments, namespace=NAMESPACE)


def settings_of(pod, prefix):
    """The variables of a pod's first container, as the process would see them."""
    return {
        variable["name"]: variable.get("value", "from-elsewhere")
        for variable in pod["spec"]["containers"][0].get("env", [])
        if variable["name"].startswith(prefix)
    }


def matches(selector, labels):
    return selector.items() <= labels.items()


def test_it_is_well_formed(helm, arguments):
    helm("lint", "--strict", str(CHART), *arguments)


def test_nothing_is_there_twice(objects):
    names = Counter((obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects)
    assert [name for name, count in names.items() if count > 1] == []


def test_everything_carries_the_labels(objects):
    for obj in objects:
        if obj["kind"] == "ConfigMap" and "penstock.dev" not in str(obj["metadata"].get("labels")):
            continue  # an extra object is whoever wrote it's
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "penstock", obj["metadata"]["name"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_services_and_policies_find_their_pods(objects):
    pods = [pod for name, pod in workloads(objects) if name.startswith("Deployment/")]
    for obj in objects:
        if obj["kind"] == "Service":
            (pod,) = [pod for pod in pods if matches(obj["spec"]["selector"], pod["metadata"]["labels"])]
            ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in obj["spec"]["ports"]} <= ports
        if obj["kind"] == "PodDisruptionBudget":
            assert any(matches(obj["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]) for pod in pods)
        if obj["kind"] == "NetworkPolicy" and obj["metadata"]["namespace"] == NAMESPACE:
            selector = obj["spec"]["podSelector"]["matchLabels"]
            if "app.kubernetes.io/component" in selector:
                assert any(matches(selector, pod["metadata"]["labels"]) for pod in pods)


def test_every_process_understands_what_it_is_told(objects, monkeypatch):
    checked = set()
    for name, pod in workloads(objects):
        for prefix, settings in SETTINGS.items():
            variables = settings_of(pod, prefix)
            if not variables:
                continue
            unknown = {variable for variable in variables if field_of(settings, prefix, variable) is None}
            assert unknown == set(), f"{name} sets what no process reads"
            with monkeypatch.context() as patch:
                for variable, value in variables.items():
                    patch.setenv(variable, value)
                settings()
            checked.add(prefix)
    assert {"PENSTOCK_GATEWAY_", "PENSTOCK_OPERATOR_"} <= checked


def field_of(settings, prefix, variable):
    """The field that a variable sets, or None."""
    model = settings
    for part in variable.removeprefix(prefix).lower().split("__"):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return None
        model = field.annotation
    return field


def test_the_api_server_takes_every_object(plane, objects):
    for namespace in {NAMESPACE, *(obj["metadata"].get("namespace", NAMESPACE) for obj in objects)}:
        plane.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    plane.apply(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)  # a controller makes it elsewhere
    for obj in objects:
        if obj["kind"] == "ConfigMap":
            obj["metadata"].setdefault("namespace", NAMESPACE)
    stream = yaml.safe_dump_all([obj for obj in objects if obj["kind"] not in FOREIGN])
    command = [str(binaries.find("kubectl")), "apply", "--server-side", "--dry-run=server", "--validate=strict"]
    result = subprocess.run(
        [*command, f"--kubeconfig={plane.kubeconfig()}", "--force-conflicts", "-f", "-"],
        input=stream,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_every_pod_passes_the_restricted_level(plane, objects):
    namespace = "chart-restricted"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    plane.apply("/api/v1/namespaces", body)
    for name, pod in workloads(objects):
        account = pod["spec"].get("serviceAccountName", "default")
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
        plane.apply(f"/api/v1/namespaces/{namespace}/serviceaccounts", body)
        admitted = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": dict(pod["spec"])}
        admitted["spec"].pop("priorityClassName", None)
        created = plane.call("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", admitted)
        for container in created["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert "memory" in container["resources"]["limits"], name
    admitted["spec"]["securityContext"] = {}
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        plane.call("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", admitted)


def test_a_gateway_has_longer_to_end_than_its_streams(helm):
    drain = ("--set", "gateway.drainSeconds=1200,gateway.drainDelaySeconds=20")
    (pod,) = [pod for name, pod in workloads(helm.render(*drain)) if name == "Deployment/penstock-gateway"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > 1220
    assert settings_of(pod, "PENSTOCK_GATEWAY_")["PENSTOCK_GATEWAY_DEADLINES__DRAIN_S"] == "1200"


def test_an_autoscaler_owns_the_count(helm):
    objects = {
        (obj["kind"], obj["metadata"]["name"]): obj for obj in helm.render("--set", "gateway.autoscaling.enabled=true")
    }
    assert "replicas" not in objects["Deployment", "penstock-gateway"]["spec"]
    assert objects["HorizontalPodAutoscaler", "penstock-gateway"]["spec"]["minReplicas"] == 2


def test_a_single_copy_may_be_evicted(helm):
    one = helm.render("--set", "gateway.replicas=1,operator.replicas=1")
    assert [obj for obj in one if obj["kind"] == "PodDisruptionBudget"] == []


def test_the_admin_service_is_the_one_the_operator_asks(helm):
    objects = helm.render(release="other")
    (pod,) = [pod for name, pod in workloads(objects) if name == "Deployment/other-penstock-operator"]
    service = settings_of(pod, "PENSTOCK_OPERATOR_")["PENSTOCK_OPERATOR_GATEWAY_SERVICE"]
    (found,) = [obj for obj in objects if obj["kind"] == "Service" and obj["metadata"]["name"] == service]
    assert found["spec"]["clusterIP"] == "None"
    assert [port["port"] for port in found["spec"]["ports"]] == [8001]


def test_namespaced_mode_reads_classes_and_nothing_else_of_the_cluster(helm):
    mode = ("--set", "rbac.namespaced=true,rbac.namespaces={chat,search}")
    objects = helm.render(*mode)
    bound = {obj["roleRef"]["name"] for obj in objects if obj["kind"] == "ClusterRoleBinding"}
    rules = [
        rule
        for obj in objects
        if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] in bound
        for rule in obj["rules"]
    ]
    assert rules == [
        {"apiGroups": ["penstock.dev"], "resources": ["acceleratorclasses"], "verbs": ["get", "list", "watch"]}
    ]
    for name, pod in workloads(objects):
        for variable in pod["spec"]["containers"][0].get("env", []):
            if variable["name"].endswith("NAMESPACES"):
                assert json.loads(variable["value"]) == ["chat", "search"], name


def test_no_role_has_a_wildcard(objects):
    for obj in objects:
        if obj["kind"] in {"Role", "ClusterRole"}:
            assert "*" not in json.dumps(obj["rules"]), obj["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("operator.replicsa=3", "additional properties 'replicsa' not allowed"),
        ("redis.enabled=false", "ledger.enabled needs a Redis"),
        ("rbac.namespaces={chat}", "rbac.namespaces is for namespaced mode"),
        ("gateway.ingress.enabled=true", "gateway.ingress.hosts: name a host"),
        ("gateway.httpRoute.enabled=true", "gateway.httpRoute.parentRefs: name a Gateway"),
        ("operator.serviceAccount.create=false", "operator.serviceAccount.name: name the ServiceAccount"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(helm, values, message):
    result = helm.run("template", "penstock", str(CHART), "--set", values)
    assert result.returncode != 0
    assert message in result.stderr


def test_definitions_may_be_left_out_or_let_go(helm):
    assert not [obj for obj in helm.render("--set", "crds.install=false") if obj["kind"] == "CustomResourceDefinition"]
    kept = [obj for obj in helm.render() if obj["kind"] == "CustomResourceDefinition"]
    assert {obj["metadata"]["annotations"]["helm.sh/resource-policy"] for obj in kept} == {"keep"}
    gone = [obj for obj in helm.render("--set", "crds.keep=false") if obj["kind"] == "CustomResourceDefinition"]
    assert all("helm.sh/resource-policy" not in obj["metadata"].get("annotations", {}) for obj in gone)
    for obj in gone:
        source = yaml.safe_load(
            (CHART / "files" / "crds" / f"penstock.dev_{obj['spec']['names']['plural']}.yaml").read_text()
        )
        assert obj["spec"] == source["spec"]


def test_a_digest_goes_before_a_tag_and_a_registry_before_both(helm):
    digest = f"sha256:{'0' * 64}"
    values = f"image.registry=registry.example.com/team/,gateway.image.digest={digest},operator.image.tag=9.9.9"
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in workloads(helm.render("--set", values))}
    assert images["Deployment/penstock-gateway"] == f"registry.example.com/team/penstock-gateway@{digest}"
    assert images["Deployment/penstock-operator"] == "registry.example.com/team/penstock-operator:9.9.9"
    assert images["Deployment/penstock-ledger"] == images["Deployment/penstock-operator"]
    assert images["Deployment/penstock-redis"].startswith("docker.io/library/redis:")


def test_no_readers_are_nobody_and_not_everybody(helm):
    objects = helm.render("--set", "networkPolicy.monitoring=null,networkPolicy.apiServer=null", namespace=NAMESPACE)
    policies = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy"}
    assert policies["penstock-operator"].get("ingress") is None
    for name in ("penstock-gateway", "penstock-ledger"):
        closed = [rule for rule in policies[name]["ingress"] if rule["ports"] != [{"port": "data"}]]
        assert all(rule["from"] for rule in closed)


def test_where_the_platform_chooses_users_the_chart_names_none(helm):
    objects = helm.render("--set", "podSecurity.runAsUser=null,podSecurity.fsGroup=null", namespace=NAMESPACE)
    for name, pod in workloads(objects):
        named = pod["spec"]["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}
        assert (name, named, pod["spec"]["securityContext"]["runAsNonRoot"]) == (name, set(), True)
