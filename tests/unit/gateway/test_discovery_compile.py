"""From published objects to a snapshot: who has a name, who reaches what, and what is no published object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.published import (
    MODEL_LABEL,
    VARIANT_ANNOTATION,
    WEIGHT_ANNOTATION,
    NamespaceRouting,
    encode_routing,
)
from penstock.routing.snapshot import (
    Backend,
    CompiledRoute,
    CompiledTenant,
    Replica,
    ReplicaState,
    ServedModel,
    VariantShare,
)
from penstock_gateway.discovery.compile import Compiled, Content, compile_content
from penstock_gateway.discovery.objects import (
    MalformedError,
    PublishedRouting,
    PublishedSlice,
    read_routing,
    read_slice,
)


def published(created: str, *models: str, routes: tuple[CompiledRoute, ...] = (), tenants: tuple[str, ...] = ()):
    routing = NamespaceRouting(
        models=tuple(ServedModel(name=name) for name in models),
        routes=routes,
        tenants=tuple(CompiledTenant(name=name, key_hashes=(f"{created}-{name}",)) for name in tenants),
    )
    return PublishedRouting(created=created, routing=routing)


def replica(name: str, model: str) -> Replica:
    return Replica(id=name, model=model, variant="v", address="192.0.2.1", port=1)


def compiled(content: Content) -> Compiled:
    return compile_content(content, version=7, anonymous_tenant=None)


def test_everything_of_every_namespace_is_there():
    slices = {
        "a/s": PublishedSlice(model="one", variant="v", weight=3, replicas=(replica("r-1", "one"),)),
        "b/s": PublishedSlice(model="two", variant="v", replicas=(replica("r-2", "two"),)),
    }
    content = Content(routings={"a": published("1", "one"), "b": published("2", "two")}, slices=slices)
    snapshot, taken = compiled(content)
    assert snapshot.version == 7
    assert [model.name for model in snapshot.models] == ["one", "two"]
    assert {replica.id for replica in snapshot.replicas} == {"r-1", "r-2"}
    assert snapshot.shares == (VariantShare(model="one", variant="v", weight=3),)
    assert not taken


def test_the_namespace_that_was_there_first_has_a_name_and_the_others_replicas_are_left_out():
    slices = {
        f"{namespace}/s": PublishedSlice(model="m", variant="v", replicas=(replica(f"r-{namespace}", "m"),))
        for namespace in ("early", "aaa")
    }
    content = Content(routings={"aaa": published("2", "m"), "early": published("1", "m")}, slices=slices)
    snapshot, taken = compiled(content)
    assert [replica.id for replica in snapshot.replicas] == ["r-early"]
    assert len(snapshot.models) == 1
    assert taken == ("the name 'm' of aaa belongs to early",)


def test_routes_lead_to_their_own_namespace_only():
    route = CompiledRoute(name="r", backends=(Backend(model="mine"), Backend(model="theirs")), fallbacks=("theirs",))
    content = Content(routings={"a": published("1", "theirs"), "b": published("2", "mine", routes=(route,))})
    [got] = compiled(content).snapshot.routes
    assert got == CompiledRoute(name="r", backends=(Backend(model="mine"),))


def test_tenants_are_unique_and_reach_their_own_namespace_only():
    content = Content(
        routings={
            "a": published("1", "one", tenants=("team",)),
            "b": published("2", "one", "two", tenants=("team", "other")),
        }
    )
    snapshot, taken = compiled(content)
    assert [(tenant.name, tenant.allowed, tenant.key_hashes) for tenant in snapshot.tenants] == [
        ("team", ("one",), ("1-team",)),
        ("other", ("two",), ("2-other",)),
    ]
    assert "the tenant 'team' of b belongs to a" in taken


def test_a_tenant_of_another_namespaces_name_is_left_out():
    content = Content(routings={"a": published("1", "m", tenants=("a/team", "b/team"))})
    snapshot, taken = compiled(content)
    assert [tenant.name for tenant in snapshot.tenants] == ["a/team"]
    assert taken == ("the tenant 'b/team' of a is named like one of another namespace",)


names = st.sampled_from(["x", "y", "z"])
namespaces = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(
        lambda created, models, tenants: published(created, *models, tenants=tuple(tenants)),
        st.sampled_from(["1", "2"]),
        st.lists(names, unique=True),
        st.lists(names, unique=True),
    ),
)
slices = st.dictionaries(
    st.sampled_from(["a/1", "a/2", "b/1", "c/1"]),
    st.builds(
        lambda model, ids: PublishedSlice(model=model, variant="v", replicas=tuple(replica(i, model) for i in ids)),
        names,
        st.lists(st.sampled_from(["r1", "r2", "r3"]), unique=True),
    ),
)


@given(namespaces, slices)
def test_no_name_appears_twice_and_no_order_matters(
    routings: dict[str, PublishedRouting], given_slices: dict[str, PublishedSlice]
):
    snapshot, taken = compiled(Content(routings=routings, slices=given_slices))
    for collection in (
        [model.name for model in snapshot.models],
        [tenant.name for tenant in snapshot.tenants],
        [replica.id for replica in snapshot.replicas],
    ):
        assert len(collection) == len(set(collection))
    assert {replica.model for replica in snapshot.replicas} <= {model.name for model in snapshot.models}
    for tenant in snapshot.tenants:
        assert tenant.allowed is not None
    turned = Content(
        routings=dict(reversed(routings.items())),
        slices=dict(reversed(given_slices.items())),
    )
    assert compiled(turned) == (snapshot, taken)


def endpoint_slice(**changes: object) -> dict[str, object]:
    return {
        "metadata": {
            "name": "s",
            "namespace": "a",
            "labels": {MODEL_LABEL: "m"},
            "annotations": {VARIANT_ANNOTATION: "m--l4--1", WEIGHT_ANNOTATION: "5"},
        },
        "ports": [{"port": 8100}],
        "endpoints": [{"hostname": "r-1", "addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
        **changes,
    }


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({}, ReplicaState.READY),
        ({"ready": True, "serving": True}, ReplicaState.READY),
        ({"ready": False, "serving": True}, ReplicaState.DRAINING),
        ({"ready": False, "serving": False}, None),
        ({"ready": False}, None),
    ],
)
def test_conditions_say_what_may_be_done_with_a_replica(conditions: dict[str, bool], state: ReplicaState | None):
    endpoint = {"hostname": "r-1", "addresses": ["192.0.2.1"], "conditions": conditions}
    got = read_slice(endpoint_slice(endpoints=[endpoint]))
    assert (got.model, got.variant, got.weight) == ("m", "m--l4--1", 5)
    assert [(each.id, each.address, each.port, each.state) for each in got.replicas] == (
        [] if state is None else [("r-1", "192.0.2.1", 8100, state)]
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metadata": {"name": "s"}}, MODEL_LABEL),
        ({"ports": []}, "ports"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "ports"),
        ({"ports": [{"port": None}]}, "ports"),
        ({"endpoints": [{"addresses": ["192.0.2.1"]}]}, "hostname"),
        (
            {
                "metadata": {
                    "labels": {MODEL_LABEL: "m"},
                    "annotations": {VARIANT_ANNOTATION: "v", WEIGHT_ANNOTATION: "-1"},
                }
            },
            WEIGHT_ANNOTATION,
        ),
    ],
)
def test_a_slice_that_is_not_as_published_names_what_is_wrong(changes: dict[str, object], named: str):
    with pytest.raises(MalformedError, match=named):
        read_slice(endpoint_slice(**changes))


def test_an_empty_slice_needs_no_port():
    assert read_slice(endpoint_slice(endpoints=None, ports=None)).replicas == ()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "routing.json"),
        ({"other": "x"}, "routing.json"),
        ({"routing.json": "{"}, "truncated"),
        ({"routing.json": '{"tenants": [{"name": 1}]}'}, r"tenants\[0\].name"),
    ],
)
def test_a_config_map_that_is_not_as_published_names_what_is_wrong(data: dict[str, str] | None, named: str):
    with pytest.raises(MalformedError, match=named):
        read_routing({"metadata": {"name": "penstock-routing", "namespace": "a"}, "data": data})


def test_a_config_map_is_read_with_its_age():
    routing = NamespaceRouting(models=(ServedModel(name="m"),))
    metadata = {"name": "penstock-routing", "namespace": "a", "creationTimestamp": "2026-11-24T01:02:03Z"}
    got = read_routing({"metadata": metadata, "data": {"routing.json": encode_routing(routing)}})
    assert got == PublishedRouting(created="2026-11-24T01:02:03Z", routing=routing)
