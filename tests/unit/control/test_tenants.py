"""Tenants as gateways get them, and what the files refer to in vain."""

from penstock.api import Manifest, parse_resource
from penstock.control.tenants import compile_tenants, dangling
from penstock.routing.keys import hash_key

PEPPER = b"pepper"


def resource(kind, name, spec):
    version = "v1" if kind == "Secret" else "penstock.dev/v1alpha1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
    return parse_resource(body | (spec if kind == "Secret" else {"spec": spec}))


def tenant(name, key, **spec):
    return resource("Tenant", name, {"keys": [{"name": "main", "secretRef": {"name": "keys", "key": key}}], **spec})


KEYS = resource("Secret", "keys", {"stringData": {"alice": "sk-alice\n", "twin": "sk-alice"}})
ROUTE = resource("Route", "chat", {"backends": [{"model": "nomodel"}]})


def test_a_tenant_has_the_hash_of_its_key_without_the_line_end():
    (compiled,), problems = compile_tenants(Manifest(tenants=(tenant("alice", "alice"),), secrets=(KEYS,)), PEPPER)
    assert compiled.key_hashes == (hash_key(PEPPER, "sk-alice"),)
    assert problems == ()


def test_a_missing_secret_and_a_shared_key_are_said():
    manifest = Manifest(
        tenants=(tenant("alice", "alice"), tenant("bob", "twin"), tenant("carol", "none")), secrets=(KEYS,)
    )
    tenants, problems = compile_tenants(manifest, PEPPER)
    assert [len(one.key_hashes) for one in tenants] == [1, 0, 0]
    assert ["same key" in problems[0], "no entry 'none'" in problems[1]] == [True, True]


def test_routes_and_tenants_that_lead_nowhere_are_said_once():
    manifest = Manifest(routes=(ROUTE,), tenants=(tenant("alice", "none", allowedRoutes=["zzz"]),))
    said = dangling(manifest)
    assert len(said) == 2
    assert "Route default/chat: spec.backends[0].model" in said[0]
    assert "zzz" in said[1]
