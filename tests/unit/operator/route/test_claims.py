"""A public name has one holder: the oldest that claims it, over all namespaces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock.api import ResourceKey, parse_resource
from penstock_operator.route.claims import claims


def resource(kind, namespace, name, spec, created=1):
    metadata = {"namespace": namespace, "name": name, "creationTimestamp": f"2026-11-24T00:00:{created:02d}Z"}
    return parse_resource({"apiVersion": "penstock.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})


def model(namespace, name, created=1, adapters=()):
    spec = {"preset": "llama-3.1-8b", "accelerator": "nvidia-h100:1"}
    spec["adapters"] = [{"name": adapter, "source": "hf://a/b"} for adapter in adapters]
    return resource("Model", namespace, name, spec, created)


def route(namespace, name, created=1, backends=("m",), public=None):
    spec = {"backends": [{"model": backend} for backend in backends]}
    return resource("Route", namespace, name, spec | ({"modelName": public} if public else {}), created)


def losers(*objects):
    models = [obj for obj in objects if obj.KIND == "Model"]
    routes = [obj for obj in objects if obj.KIND == "Route"]
    return {f"{key.kind} {key.namespace}/{key.name}" for key in claims(models, routes)}


def test_the_older_has_the_name_in_whichever_namespace():
    assert losers(model("a", "llama", 2), model("b", "llama", 1)) == {"Model a/llama"}
    assert losers(model("a", "llama", 1), route("b", "llama", 2)) == {"Route b/llama"}
    assert losers(route("a", "chat", 2, public="gpt"), route("b", "other", 1, public="gpt")) == {"Route a/chat"}


def test_of_two_from_one_second_the_first_by_namespace_and_name_has_it():
    assert losers(model("b", "llama"), model("a", "llama")) == {"Model b/llama"}
    assert losers(route("a", "z", public="gpt"), route("a", "b", public="gpt")) == {"Route a/z"}


def test_a_route_goes_before_the_model_behind_it_however_young():
    assert losers(model("a", "llama", 1), model("a", "next", 2), route("a", "llama", 3, ("llama", "next"))) == set()


def test_a_route_goes_before_no_model_of_another_namespace():
    assert losers(model("a", "llama", 1), route("b", "llama", 2, ("llama",))) == {"Route b/llama"}


def test_a_route_in_front_of_a_model_takes_no_name_that_the_model_did_not_have():
    objects = model("a", "llama", 1), model("b", "llama", 2), route("b", "llama", 3, ("llama",))
    assert losers(*objects) == {"Model b/llama", "Route b/llama"}


def test_an_adapter_without_its_name_leaves_its_model_served():
    assert losers(model("a", "sql", 1), model("b", "llama", 2, adapters=["sql"])) == set()
    assert losers(model("a", "sql", 2), model("b", "llama", 1, adapters=["sql"])) == {"Model a/sql"}


def test_a_loser_is_told_who_has_the_name_and_what_to_do():
    told = claims([model("a", "llama", 1)], [route("b", "chat", 2, public="llama")])
    assert told[ResourceKey("Route", "b", "chat")] == (
        "spec.modelName: the public name 'llama' belongs to Model a/llama already: choose another, "
        "or remove one of them"
    )


OBJECTS = st.lists(
    st.one_of(
        st.builds(model, st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 3), st.just(())),
        st.builds(
            route,
            st.sampled_from("ab"),
            st.sampled_from("xyz"),
            st.integers(1, 3),
            st.sampled_from([("x",), ("x", "y"), ("z",)]),
        ),
    ),
    max_size=6,
    unique_by=lambda obj: (obj.KIND, obj.namespace, obj.name),
)


@given(OBJECTS)
def test_each_name_has_one_holder_whatever_the_order(objects):
    lost = losers(*objects)
    for order in itertools.islice(itertools.permutations(objects), 12):
        assert losers(*order) == lost
    for name in {obj.name for obj in objects}:
        held = [o for o in objects if o.name == name and f"{o.KIND} {o.namespace}/{o.name}" not in lost]
        if len(held) > 1:  # a Route and the Model behind it
            front, behind = sorted(held, key=lambda obj: obj.KIND, reverse=True)
            assert (front.KIND, behind.KIND, front.namespace) == ("Route", "Model", behind.namespace)
            assert len(held) == 2
        assert held
