"""What is said of a Route."""

import pytest

from penstock.api import Model, Route
from penstock_kube.resources import MODELS, ROUTES
from penstock_operator.route.plan import judge, shares
from penstock_operator.typed import Typed
from tests.unit.operator.objects import HandMirror, model, stored


def parsed(kind, obj, resource):
    mirror = HandMirror(kind)
    mirror.put(obj)
    return Typed(resource, mirror).of(mirror.all()[0])


def a_route(*backends, fallbacks=()):
    spec = {"backends": [{"model": name, "weight": weight} for name, weight in backends], "fallbacks": list(fallbacks)}
    return parsed(ROUTES, stored("Route", "a", "chat", spec), Route)


LLAMA, NEXT = (parsed(MODELS, model("a", name), Model) for name in ("llama", "next"))


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ((1,), "m0=100%"),
        ((9, 1), "m0=90%,m1=10%"),
        ((1, 1, 1), "m0=33%,m1=33%,m2=33%"),
        ((999, 1), "m0=99.9%,m1=0.1%"),
        ((1, 0), "m0=100%,m1=0%"),
        ((1_000_000, 1), "m0=>99.99%,m1=<0.01%"),
    ],
)
def test_shares_never_look_like_none_or_all_when_they_are_not(weights, text):
    assert shares(a_route(*((f"m{n}", weight) for n, weight in enumerate(weights)))) == text


def test_a_route_that_leads_to_a_model_that_answers_is_ready():
    ready = judge(a_route(("llama", 1)), None, [LLAMA], lambda _: True)
    assert (ready.status, ready.reason) == ("True", "Routed")
    assert "'chat'" in ready.message


def test_a_fallback_that_answers_is_enough():
    resource = a_route(("llama", 1), fallbacks=["next"])
    assert judge(resource, None, [LLAMA, NEXT], lambda name: name == "next").reason == "Routed"


def test_a_backend_without_weight_answers_nobody():
    resource = a_route(("llama", 1), ("next", 0))
    ready = judge(resource, None, [LLAMA, NEXT], lambda name: name == "next")
    assert ready.reason == "ModelsNotReady"
    assert ready.message == "none of llama answers: see kubectl -n a describe model llama"


def test_a_missing_model_is_said_with_where_requests_go_meanwhile():
    ready = judge(a_route(("llama", 1), ("nxet", 1)), None, [LLAMA, NEXT], lambda _: True)
    assert (ready.status, ready.reason) == ("False", "ModelNotFound")
    assert ready.message.startswith("spec.backends[1].model: there is no Model 'nxet' in namespace 'a'")
    assert ready.message.endswith("; requests go to llama meanwhile")


def test_a_name_that_another_has_goes_before_everything_else():
    ready = judge(a_route(("gone", 1)), "taken by another", [], lambda _: True)
    assert (ready.reason, ready.message) == ("NameTaken", "taken by another")


def test_models_of_other_namespaces_do_not_count():
    foreign = parsed(MODELS, model("b", "llama"), Model)
    assert judge(a_route(("llama", 1)), None, [foreign], lambda _: True).reason == "ModelNotFound"
