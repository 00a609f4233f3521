"""The chart's roles, proven by acting as its service accounts: what is granted works, all else is refused."""

import subprocess
import time
from functools import partial

import pytest

from tests.support import binaries
from tests.support.chart import Helm, rights_of
from tests.support.control_plane import free_ports
from tests.support.kuberay_crds import definitions

pytestmark = pytest.mark.controlplane

HOME, SERVED, OTHER = "rbac-home", "rbac-served", "rbac-other"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PENSTOCK = "/apis/penstock.dev/v1alpha1"
SLICES = "/apis/discovery.k8s.io/v1"
OURS = "fieldSelector=metadata.name%3Dpenstock-routing"
POLICIES = "fieldSelector=metadata.name%3Dpenstock-engines"


MODES = {
    "cluster-wide": "rbac.namespaced=false",
    "namespaced": f"rbac.namespaced=true,rbac.namespaces={{{SERVED}}}",
}


def core(namespace, *rest):
    return "/".join([f"/api/v1/namespaces/{namespace}", *rest])


def ours(namespace, *rest):
    return "/".join([f"{PENSTOCK}/namespaces/{namespace}", *rest])


def clusters(namespace, *rest):
    return "/".join([f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters", *rest])


def slices(namespace, *rest):
    return "/".join([f"{SLICES}/namespaces/{namespace}/endpointslices", *rest])


def policies(namespace, name=""):
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    return f"{path}/{name}" if name else path


def leases(*rest):
    return "/".join([f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases", *rest])


def obj(version, kind, name, **fields):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


MODEL = obj("penstock.dev/v1alpha1", "Model", "m", spec={"source": "hf://org/model", "accelerator": "nvidia-h100:1"})
CLASS_STATUS = obj("penstock.dev/v1alpha1", "AcceleratorClass", "absent", status={})
CLASS = obj(
    "penstock.dev/v1alpha1",
    "AcceleratorClass",
    "rbac-tried",
    spec={"vendor": "cpu", "memory": "4Gi", "resourceName": "cpu", "price": {"onDemandPerHour": "0.1"}},
)
CONFIG_MAP = obj("v1", "ConfigMap", "penstock-routing", data={"routing.json": "{}"})
OTHER_CONFIG_MAP = obj("v1", "ConfigMap", "somebody-elses", data={})
SLICE = obj("discovery.k8s.io/v1", "EndpointSlice", "penstock-m", addressType="IPv4", endpoints=[], ports=[])
CLUSTER = obj(
    "ray.io/v1",
    "RayCluster",
    "penstock-1",
    spec={
        "headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "h", "image": "h:1"}]}}}
    },
)
POLICY = obj("networking.k8s.io/v1", "NetworkPolicy", "penstock-engines", spec={"podSelector": {}})
SECRET = obj("v1", "Secret", "stolen", data={})
POD = obj("v1", "Pod", "p", spec={"containers": [{"name": "c", "image": "c:1"}]})
EVENT = obj(
    "v1",
    "Event",
    "e",
    involvedObject={"kind": "Model", "name": "m", "namespace": SERVED},
    reason="Ready",
    message="-",
    type="Normal",
)
ROLE = obj("rbac.authorization.k8s.io/v1", "Role", "mine", rules=[])
LEASE = obj("coordination.k8s.io/v1", "Lease", "penstock-operator", spec={"holderIdentity": "x"})


class Caller:
    """Calls the API server with one service account's token, and keeps nothing: every write is a dry run."""

    def __init__(self, client, token):
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"}

    def __call__(self, method, path, body=None, kind="application/json"):
        query = [] if method == "GET" else ["dryRun=All"]
        if kind == APPLY:
            query += ["fieldManager=test", "force=true"]
        url = path + ("&" if "?" in path else "?") + "&".join(query) if query else path
        headers = {**self._headers, "content-type": kind}
        for _ in range(10):
            answer = self._client.request(method, url, json=body, headers=headers)
            if answer.status_code != 429:  # the storage of a definition that is new starts
                break
            time.sleep(float(answer.headers.get("retry-after", "1")))
        return answer.status_code


@pytest.fixture(scope="module")
def cluster(breakable):
    """A control plane with all definitions and the namespaces."""
    (ray_cluster,) = [each for each in definitions() if each["spec"]["names"]["kind"] == "RayCluster"]
    breakable.apply("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", ray_cluster)
    for name in (HOME, SERVED, OTHER):
        breakable.apply("/api/v1/namespaces", obj("v1", "Namespace", name))
    return breakable


@pytest.fixture(scope="module")
def helm(tmp_path_factory):
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module", params=MODES)
def mode(request, cluster, helm):
    """Both modes in turn, each with no right left of the other."""
    with rights_of(cluster, helm, HOME, "--set", MODES[request.param]):
        wait_for(partial(served, cluster))
        cluster.apply(ours(SERVED, "models"), MODEL)
        cluster.apply(core(OTHER, "secrets"), obj("v1", "Secret", "theirs", data={}))
        yield request.param


def served(cluster):
    with cluster.client() as client:
        return all(
            client.get(path).status_code == 200
            for path in (f"{PENSTOCK}/models", f"{PENSTOCK}/acceleratorclasses", "/apis/ray.io/v1/rayclusters")
        )


def wait_for(condition, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def caller(cluster):
    """Makes the caller of a service account; all share connections."""
    with cluster.client() as client:
        yield lambda namespace, name: Caller(client, cluster.service_account_token(namespace, name))


@pytest.fixture
def account(caller, mode):
    """Makes the caller of one of the chart's service accounts."""
    return partial(caller, HOME)


def operator_calls(namespace):
    """Every call that the operator makes in a namespace it serves."""
    yield "GET", ours(namespace, "models"), None, None
    yield "GET", ours(namespace, "routes"), None, None
    yield "GET", ours(namespace, "tenants"), None, None
    yield "PATCH", ours(namespace, "models", "m"), {"metadata": {"finalizers": ["penstock.dev/drain"]}}, MERGE
    yield "PATCH", ours(namespace, "models", "m", "status"), {"status": {}}, MERGE
    yield "PATCH", ours(namespace, "models", "m", "scale"), {"spec": {"replicas": 1}}, MERGE
    yield "GET", clusters(namespace), None, None
    yield "PATCH", clusters(namespace, "penstock-1"), CLUSTER, APPLY
    yield "DELETE", clusters(namespace, "penstock-1"), None, None
    yield "GET", slices(namespace), None, None
    yield "PATCH", slices(namespace, "penstock-m"), SLICE, APPLY
    yield "DELETE", slices(namespace, "penstock-m"), None, None
    yield "GET", core(namespace, f"configmaps?{OURS}"), None, None
    yield "PATCH", core(namespace, "configmaps", "penstock-routing"), CONFIG_MAP, APPLY
    yield "DELETE", core(namespace, "configmaps", "penstock-routing"), None, None
    yield "GET", f"{policies(namespace)}?{POLICIES}", None, None
    yield "PATCH", policies(namespace, "penstock-engines"), POLICY, APPLY
    yield "DELETE", policies(namespace, "penstock-engines"), None, None
    yield "GET", core(namespace, "pods"), None, None
    yield "GET", core(namespace, "secrets"), None, None
    yield "GET", core(namespace, "secrets", "absent"), None, None
    event = {**EVENT, "metadata": {"name": "e"}, "involvedObject": {"kind": "Model", "namespace": namespace}}
    yield "POST", core(namespace, "events"), event, None


def refused_everywhere(namespace):
    """Calls that nothing of ours makes."""
    yield "POST", core(namespace, "secrets"), SECRET, None
    yield "PATCH", core(namespace, "secrets", "theirs"), {"data": {}}, MERGE
    yield "POST", core(namespace, "pods"), POD, None
    yield "DELETE", core(namespace, "pods", "p"), None, None
    yield "POST", core(namespace, "pods/p/exec?command=sh"), None, None
    yield "GET", core(namespace, "pods/p/log"), None, None
    yield "GET", core(namespace, "pods/p/proxy"), None, None
    yield "GET", core(namespace, "configmaps"), None, None
    yield "PATCH", core(namespace, "configmaps", "somebody-elses"), OTHER_CONFIG_MAP, APPLY
    yield "GET", policies(namespace), None, None
    yield "DELETE", policies(namespace, "somebody-elses"), None, None
    yield "POST", ours(namespace, "models"), MODEL, None
    yield "DELETE", ours(namespace, "models", "m"), None, None
    yield "PATCH", ours(namespace, "routes", "r"), {"spec": {}}, MERGE
    yield "POST", f"{RBAC}/namespaces/{namespace}/roles", ROLE, None
    yield "POST", core(namespace, "serviceaccounts/default/token"), {"spec": {}}, None
    yield "DELETE", "/api/v1/nodes/n", None, None
    yield "PATCH", "/api/v1/nodes/n", {"spec": {"unschedulable": True}}, MERGE
    yield "DELETE", f"{PENSTOCK}/acceleratorclasses/rbac-tried", None, None
    yield "DELETE", f"/api/v1/namespaces/{namespace}", None, None
    yield "GET", "/apis/apps/v1/deployments", None, None
    yield "GET", leases(), None, None
    yield "PATCH", leases("somebody-elses"), {**LEASE, "metadata": {"name": "somebody-elses"}}, APPLY


def statuses(caller, calls):
    return {
        f"{method} {path}": caller(method, path, body, kind or "application/json") for method, path, body, kind in calls
    }


def all_granted(found):
    """404 is an answer too: it says that the object is not there, not that one may not ask."""
    return {call: status for call, status in found.items() if status not in (200, 201, 404)}


def all_refused(found):
    return {call: status for call, status in found.items() if status != 403}


def test_the_operator_may_do_its_work(account):
    assert all_granted(statuses(account("penstock-operator"), operator_calls(SERVED))) == {}


def test_the_operator_may_stand_for_election_and_find_gateways(account):
    calls = [
        ("POST", leases(), LEASE, None),
        ("GET", leases("penstock-operator"), None, None),
        ("PUT", leases("penstock-operator"), LEASE, None),
        ("GET", slices(HOME), None, None),
        (
            "POST",
            core(HOME, "events"),
            {**EVENT, "metadata": {"name": "e"}, "involvedObject": {"namespace": HOME}},
            None,
        ),
    ]
    assert all_granted(statuses(account("penstock-operator"), calls)) == {}


def test_the_operator_may_do_nothing_else(account):
    assert all_refused(statuses(account("penstock-operator"), refused_everywhere(SERVED))) == {}


def test_the_operator_reads_classes_in_both_modes_and_writes_them_in_one(account, mode):
    operator = account("penstock-operator")
    assert operator("GET", f"{PENSTOCK}/acceleratorclasses") == 200
    writes = [
        ("PATCH", f"{PENSTOCK}/acceleratorclasses/rbac-tried", CLASS, APPLY),
        ("PATCH", f"{PENSTOCK}/acceleratorclasses/absent/status", CLASS_STATUS, APPLY),
        ("GET", "/api/v1/nodes", None, None),
    ]
    found = statuses(operator, writes)
    assert (all_granted(found) if mode == "cluster-wide" else all_refused(found)) == {}


def test_other_namespaces_are_open_only_when_all_are_served(account, mode):
    found = statuses(account("penstock-operator"), operator_calls(OTHER))
    assert (all_granted(found) if mode == "cluster-wide" else all_refused(found)) == {}
    everywhere = account("penstock-operator")("GET", "/api/v1/secrets")
    assert everywhere == (200 if mode == "cluster-wide" else 403)


def test_a_gateway_reads_what_it_routes_by(account, mode):
    gateway = account("penstock-gateway")
    assert gateway("GET", core(SERVED, f"configmaps?{OURS}")) == 200
    assert gateway("GET", slices(SERVED)) == 200
    assert gateway("GET", core(OTHER, f"configmaps?{OURS}")) == (200 if mode == "cluster-wide" else 403)


def test_a_gateway_may_do_nothing_else(account):
    gateway = account("penstock-gateway")
    reads = {("GET", core(SERVED, f"configmaps?{OURS}")), ("GET", slices(SERVED))}
    calls = [call for call in (*operator_calls(SERVED), *refused_everywhere(SERVED)) if call[:2] not in reads]
    assert all_refused(statuses(gateway, calls)) == {}


@pytest.mark.parametrize("name", ["penstock-ledger", "penstock-redis"])
def test_who_needs_no_right_has_none(account, name):
    calls = [*operator_calls(SERVED), *refused_everywhere(SERVED)]
    assert all_refused(statuses(account(name), calls)) == {}


def test_a_user_of_the_built_in_roles_may_serve_models(cluster, caller, mode, aggregated):
    """Through aggregation, which a controller of Kubernetes does."""
    prefix = f"{HOME}-penstock"
    for role in ("view", "edit"):
        name = f"{role}er"
        cluster.apply(core(SERVED, "serviceaccounts"), obj("v1", "ServiceAccount", name))
        binding = obj(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            name,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": SERVED}],
        )
        cluster.apply(f"{RBAC}/namespaces/{SERVED}/rolebindings", binding)
    callers = {role: caller(SERVED, f"{role}er") for role in ("view", "edit")}
    wait_for(lambda: callers["view"]("GET", ours(SERVED, "models")) == 200)
    wait_for(
        lambda: callers["edit"]("PATCH", ours(SERVED, "models", "m", "scale"), {"spec": {"replicas": 1}}, MERGE) == 200
    )
    assert callers["edit"]("POST", ours(SERVED, "models"), {**MODEL, "metadata": {"name": "new"}}) == 201
    assert callers["view"]("POST", ours(SERVED, "models"), {**MODEL, "metadata": {"name": "new"}}) == 403
    assert callers["view"]("GET", ours(OTHER, "models")) == 403
    assert callers["edit"]("PATCH", ours(SERVED, "models", "m", "status"), {"status": {}}, MERGE) == 403, (
        "the operator's"
    )
    assert callers["edit"]("GET", core(HOME, "pods/penstock-operator-0/proxy")) == 403, "for askers only"
    assert cluster.call("GET", f"{RBAC}/clusterroles/{prefix}-viewer")["rules"]


def test_an_asker_reaches_pods_of_the_platform_through_the_proxy(cluster, caller, mode):
    cluster.apply(core(OTHER, "serviceaccounts"), obj("v1", "ServiceAccount", "asker"))
    binding = obj(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "asks",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "penstock-asker"},
        subjects=[{"kind": "ServiceAccount", "name": "asker", "namespace": OTHER}],
    )
    cluster.apply(f"{RBAC}/namespaces/{HOME}/rolebindings", binding)
    asker = caller(OTHER, "asker")
    wait_for(lambda: asker("GET", leases("penstock-operator")) == 404)
    assert asker("GET", core(HOME, "pods/absent:8080/proxy/api/status")) == 404
    assert asker("GET", core(HOME, "services/absent:8090/proxy/report")) in (404, 503)
    assert asker("GET", core(HOME, "secrets")) == 403
    assert asker("GET", core(SERVED, "pods/absent:8080/proxy/")) == 403
    assert asker("POST", core(HOME, "pods/absent:8080/proxy/")) == 403


@pytest.fixture(scope="module")
def aggregated(cluster):
    """The controller of Kubernetes that adds labelled ClusterRoles to the built-in ones."""
    (port,) = free_ports(1)
    command = [
        str(binaries.find("kube-controller-manager")),
        f"--kubeconfig={cluster.kubeconfig()}",
        "--controllers=clusterrole-aggregation-controller",
        "--leader-elect=false",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={cluster.folder / 'controller-manager'}",
    ]
    with (cluster.folder / "controller-manager.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    yield
    process.terminate()
    process.wait(15)
