"""What gateways are to know of a namespace, and what they must never be told."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import Model, ResourceKey, Route, Tenant
from penstock.routing.published import CONFIG_KEY, NamespaceRouting, decode_routing, encode_routing
from penstock_kube.resources import CONFIG_MAPS, MODELS, ROUTES, TENANTS, Key
from penstock_operator.route.compile import HashedTenant, compile_namespace
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.route.publisher import LABELS, Publisher, published_keys
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.tenant.plan import find_key
from penstock_operator.typed import Typed, TypedWorld
from tests.unit.operator.objects import HandMirror, model, route, stored, tenant

PEPPER = b"pepper"


def parsed(kind, obj, resource):
    mirror = HandMirror(kind)
    mirror.put(obj)
    return Typed(resource, mirror).of(mirror.all()[0])


def a_model(name, **options):
    return parsed(MODELS, model("a", name, **options), Model)


def a_route(name, **options):
    return parsed(ROUTES, route("a", name, **options), Route)


def a_tenant(name, **spec):
    return HashedTenant("a", name, parsed(TENANTS, tenant("a", name, **spec), Tenant), (f"hash-of-{name}",))


def test_a_namespace_becomes_models_routes_and_tenants_by_name():
    routing = compile_namespace(
        [a_model("next"), a_model("llama", adapters=("sql", "law"))],
        [a_route("chat", backends=("llama", "next"), public="gpt")],
        [a_tenant("team")],
        {ResourceKey("Model", "a", "llama"): {"law"}},
    )
    assert [(m.name, m.adapters, m.created_s) for m in routing.models] == [
        ("llama", ("sql",), 1795478401),
        ("next", (), 1795478401),
    ]
    assert [(r.name, [b.model for b in r.backends]) for r in routing.routes] == [("gpt", ["llama", "next"])]
    assert [(t.name, t.allowed) for t in routing.tenants] == [("a/team", ("gpt", "llama", "next", "sql"))]


def test_a_route_leads_only_to_models_that_are_there():
    routing = compile_namespace([a_model("llama")], [a_route("r", backends=("gone", "llama"))], [], {})
    assert [backend.model for backend in routing.routes[0].backends] == ["llama"]


def test_a_route_that_leads_nowhere_is_no_name():
    routing = compile_namespace([], [a_route("r", backends=("gone",))], [a_tenant("t")], {})
    assert routing.routes == ()
    assert routing.tenants[0].allowed == ()


def test_a_tenant_that_cannot_be_read_stays_without_keys_and_rights():
    (compiled,) = compile_namespace([a_model("llama")], [], [HashedTenant("a", "t", None)], {}).tenants
    assert (compiled.key_hashes, compiled.allowed) == ((), ())


def test_names_that_a_tenant_lists_are_its_names_where_they_exist():
    (compiled,) = compile_namespace(
        [a_model("llama"), a_model("next")], [], [a_tenant("t", allowedRoutes=["next", "elsewhere"])], {}
    ).tenants
    assert compiled.allowed == ("next",)


class Cluster:
    """Mirrors, the book of names, the keyring, and the publisher's pure side."""

    def __init__(self):
        self.mirrors = {"Model": HandMirror(MODELS), "Route": HandMirror(ROUTES), "Tenant": HandMirror(TENANTS)}
        models, routes, tenants = (Typed(kind, self.mirrors[kind.KIND]) for kind in (Model, Route, Tenant))
        self.typed = TypedWorld(models, routes, tenants)
        self.keyring = Keyring()
        names = NameBook(models, routes)
        self.publisher = Publisher(
            self,
            HandMirror(CONFIG_MAPS),
            None,
            typed=self.typed,
            names=names,
            keyring=self.keyring,
            publications=Publications(),
        )
        self.tenants = self.mirrors["Tenant"]

    def put(self, *objects):
        for obj in objects:
            self.mirrors[obj["kind"]].put(obj)


KEYS = st.text("abcXYZ019-_", min_size=8, max_size=24).map("sk-{}".format)
SPACES, NAMES = st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"])
OBJECTS = st.lists(
    st.one_of(
        st.builds(
            lambda s, n, c, ad: model(s, n, c, adapters=tuple(ad)),
            SPACES,
            NAMES,
            st.integers(1, 3),
            st.lists(NAMES, max_size=2, unique=True),
        ),
        st.builds(
            lambda s, n, c, bs, p: route(s, n, c, backends=tuple(bs), public=p),
            SPACES,
            NAMES,
            st.integers(1, 3),
            st.lists(NAMES, min_size=1, unique=True),
            st.none() | NAMES,
        ),
        st.builds(
            lambda s, n, c, allowed: tenant(s, n, c, **({} if allowed is None else {"allowedRoutes": allowed})),
            SPACES,
            NAMES,
            st.integers(1, 3),
            st.none() | st.lists(NAMES, max_size=3),
        ),
    ),
    max_size=12,
)


@given(OBJECTS, st.lists(KEYS, min_size=6, max_size=6, unique=True))
def test_no_plain_key_is_published_and_no_tenant_reaches_another_namespace(objects, keys):
    cluster = Cluster()
    cluster.put(*objects)
    for key, obj in zip(keys, cluster.tenants.all(), strict=False):
        resource = cluster.typed.tenants.of(obj)
        finding = find_key(resource, 0, {"main": key.encode()}, PEPPER)
        place = Key(resource.namespace, resource.name)
        cluster.keyring.put(place, resource.metadata.creation_timestamp, [finding.hash])
    routings = {space: cluster.publisher.compile(space) for space in ("a", "b")}
    names = {}
    for space, routing in routings.items():
        text = encode_routing(routing)
        assert not [key for key in keys if key in text or base64.b64encode(key.encode()).decode() in text]
        assert decode_routing(text) == routing
        own = {m.name for m in routing.models} | {r.name for r in routing.routes}
        own |= {adapter for m in routing.models for adapter in m.adapters}
        names[space] = own
        served = {m.name for m in routing.models}
        for compiled in routing.routes:
            assert served.issuperset([*(b.model for b in compiled.backends), *compiled.fallbacks])
        for compiled in routing.tenants:
            assert compiled.name.startswith(f"{space}/")
            assert compiled.allowed is not None
            assert own.issuperset(compiled.allowed)
            for hashed in compiled.key_hashes:
                assert len(hashed) == 64
                assert int(hashed, 16) >= 0
    assert not names["a"] & names["b"], "a name leads to one namespace"


def test_what_is_being_deleted_is_withdrawn_and_holds_its_name_until_it_is_gone():
    cluster = Cluster()
    cluster.put(model("a", "llama", 1, deletionTimestamp="2026-11-24T01:00:00Z"), model("b", "llama", 2))
    assert cluster.publisher.compile("a") == NamespaceRouting()
    assert cluster.publisher.compile("b") == NamespaceRouting()
    cluster.mirrors["Model"].remove("a", "llama")
    assert [m.name for m in cluster.publisher.compile("b").models] == ["llama"]


@pytest.mark.parametrize("text", ["{", "[]", '{"tenants": [{"key_hashes": []}]}'])
def test_a_config_map_that_cannot_be_read_seeds_nothing(text):
    metadata = {"namespace": "a", "name": "penstock-routing", "labels": dict(LABELS)}
    assert published_keys({"metadata": metadata, "data": {CONFIG_KEY: text}}) == {}


def test_what_is_published_seeds_the_keys_of_its_own_namespace_only():
    routing = compile_namespace([], [], [a_tenant("t")], {})
    foreign = compile_namespace([], [], [HashedTenant("b", "t", None, ("x",))], {})
    text = encode_routing(NamespaceRouting(tenants=(*routing.tenants, *foreign.tenants)))
    metadata = {"namespace": "a", "name": "penstock-routing"}
    assert published_keys({"metadata": metadata, "data": {CONFIG_KEY: text}}) == {Key("a", "t"): ("hash-of-t",)}


def test_a_tenant_of_a_later_release_keeps_asking_for_keys():
    cluster = Cluster()
    cluster.put(stored("Tenant", "a", "broken", {"of": "a later release"}))
    assert [t.name for t in cluster.publisher.compile("a").tenants] == ["a/broken"]
