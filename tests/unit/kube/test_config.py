"""Where credentials are looked for, and what is said when there are none."""

import json

import pytest

from penstock_kube.config import Access
from penstock_kube.errors import ConfigError

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "config"
    cluster = {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t-1"}}],
    }
    path.write_text(json.dumps(document))
    return path


async def test_nothing_found_says_where_to_put_one(tmp_path):
    with pytest.raises(ConfigError, match=r"set KUBECONFIG, write .*run inside a cluster"):
        Access.find()


async def test_a_path_that_leads_nowhere_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml is not there"):
        Access.find(tmp_path / "missing.yaml")


async def test_the_variable_goes_before_the_service_account(monkeypatch, kubeconfig):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert Access.find() == Access()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert Access.find() == Access(str(kubeconfig))


async def test_a_kubeconfig_is_read(kubeconfig):
    configuration = await Access(str(kubeconfig)).load()
    assert configuration.host == "https://127.0.0.1:6443"
    assert configuration.api_key["BearerToken"] == "Bearer t-1"


@pytest.mark.parametrize("text", ["{}", "not: [yaml", "[]"])
async def test_an_unusable_kubeconfig_is_named(tmp_path, text):
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(ConfigError, match="broken is unusable"):
        await Access(str(path)).load()


async def test_outside_a_pod_there_is_no_service_account():
    with pytest.raises(ConfigError, match="the service account is unusable"):
        await Access().load()
