"""Gateways are told of a change once, and of every tenant by hashes only."""

import msgspec

from penstock.api.manifest import Manifest
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.tenant import Secret, Tenant
from penstock.control.endpoints import compile_snapshot
from penstock.control.replicas import Life
from penstock.control.tenants import compile_tenants
from penstock.routing.keys import hash_key
from penstock.routing.snapshot import ReplicaState, RoutingSnapshot, encode_snapshot
from penstock.scaling.snapshot import ReplicaPhase
from tests.unit.serve.fakes import application

PEPPER = b"pepper"
EMPTY = RoutingSnapshot()


def resource(kind, name, **fields):
    return kind.model_validate({"metadata": {"name": name}, **fields})


TINY = resource(Model, "tiny", spec={"preset": "tiny-random", "accelerator": "cpu:1", "contextLength": 4096})
ROUTE = resource(Route, "chat", spec={"modelName": "chat-1", "backends": [{"model": "tiny", "weight": 3}]})


def tenant(name, key="alice"):
    return resource(
        Tenant, name, spec={"keys": [{"name": "main", "secretRef": {"name": "keys", "key": key}}], "priority": 5}
    )


SECRET = resource(Secret, "keys", stringData={"alice": "sk-alice\n", "bob": "sk-bob", "empty": " "})


def life(name, phase=ReplicaPhase.READY, **changes):
    values = {
        "model": "tiny",
        "variant": "tiny--cpu",
        "since_s": 1.0,
        "started_s": 0.0,
        "address": "127.0.0.1",
        "port": 30000,
    }
    return Life(id=name, phase=phase, application=application("tiny--cpu", model="tiny"), **(values | changes))


def test_ready_replicas_are_routed_to_and_leaving_ones_are_drained():
    lives = [
        life("a"),
        life("b"),
        life("c", ReplicaPhase.DRAINING),
        life("d", ReplicaPhase.STARTING),
        life("e", port=None),
    ]
    snapshot = compile_snapshot(Manifest(models=(TINY,)), lives, (), EMPTY, leaving=frozenset({"b"}))
    assert {replica.id: replica.state for replica in snapshot.replicas} == {
        "a": ReplicaState.READY,
        "b": ReplicaState.DRAINING,
        "c": ReplicaState.DRAINING,
    }
    assert snapshot.replicas[0].base_path == "/tiny--cpu"


def test_the_version_grows_with_every_change_and_with_nothing_else():
    manifest = Manifest(models=(TINY,))
    first = compile_snapshot(manifest, [life("a"), life("b")], (), EMPTY)
    assert first.version == 1
    assert compile_snapshot(manifest, [life("b"), life("a")], (), first) is first
    assert compile_snapshot(manifest, [life("a")], (), first).version == 2


def test_a_model_is_named_before_it_has_a_replica_and_its_routes_too():
    snapshot = compile_snapshot(Manifest(models=(TINY,), routes=(ROUTE,)), [], (), EMPTY)
    assert [(model.name, model.context_length) for model in snapshot.models] == [("tiny", 4096)]
    assert [(route.name, route.backends[0].model, route.backends[0].weight) for route in snapshot.routes] == [
        ("chat-1", "tiny", 3)
    ]


def test_replicas_of_a_model_that_left_the_files_get_nothing_new():
    assert compile_snapshot(Manifest(), [life("a")], (), EMPTY).replicas == ()


def test_anybody_may_ask_only_where_no_tenant_is_declared():
    tenants, _ = compile_tenants(Manifest(tenants=(tenant("alice"),), secrets=(SECRET,)), PEPPER)
    assert compile_snapshot(Manifest(), [], (), EMPTY).anonymous_tenant == "anonymous"
    assert compile_snapshot(Manifest(), [], tenants, EMPTY).anonymous_tenant is None


def test_a_key_is_hashed_without_the_line_end_that_editors_add_and_appears_nowhere():
    tenants, problems = compile_tenants(Manifest(tenants=(tenant("alice"),), secrets=(SECRET,)), PEPPER)
    assert problems == ()
    assert tenants[0].key_hashes == (hash_key(PEPPER, "sk-alice"),)
    assert tenants[0].priority == 5
    assert b"sk-alice" not in encode_snapshot(msgspec.structs.replace(EMPTY, tenants=tenants))


def test_each_problem_with_a_key_names_the_tenant_the_key_and_the_remedy():
    manifest = Manifest(
        tenants=(
            tenant("alice"),
            tenant("thief"),
            tenant("lost", "nobody"),
            tenant("blank", "empty"),
            tenant("bob", "bob"),
        ),
        secrets=(SECRET,),
    )
    tenants, problems = compile_tenants(manifest, PEPPER)
    assert [len(compiled.key_hashes) for compiled in tenants] == [1, 0, 0, 0, 1]
    for problem, words in zip(
        problems,
        (
            ("Tenant thief, key 'main'", "'alice' has the same key"),
            ("no entry 'nobody' in a Secret 'keys'", "penstock up"),
            ("Tenant blank", "empty entry"),
        ),
        strict=True,
    ):
        assert [word for word in words if word not in problem] == []
