"""What is said of a Tenant: how many keys work, what is wrong with the others, and what to do."""

import pytest

from penstock.api import Manifest, Model, Route, Tenant
from penstock.routing.keys import hash_key
from penstock_kube.resources import MODELS, ROUTES, TENANTS, Key
from penstock_operator.tenant.plan import KeyFinding, find_key, judge, reference_problems
from penstock_operator.typed import Typed
from tests.unit.operator.objects import HandMirror, model, route, tenant

PEPPER = b"pepper"
THIS = Key("a", "t")


def parsed(kind, obj, resource):
    mirror = HandMirror(kind)
    mirror.put(obj)
    return Typed(resource, mirror).of(mirror.all()[0])


def a_tenant(**spec):
    return parsed(TENANTS, tenant("a", "t", **spec), Tenant)


def say(resource, *findings, owner=THIS, dangling=(), unwatched=()):
    return judge(resource, findings, lambda _: owner, dangling, unwatched)


@pytest.mark.parametrize(
    ("secret", "reason", "words"),
    [
        (None, "SecretNotFound", "kubectl -n a create secret generic keys --from-literal=main=KEY"),
        ({}, "SecretKeyNotFound", "it has nothing"),
        ({"other": b"x", "b": b"y"}, "SecretKeyNotFound", "it has b, other"),
        ({"main": b""}, "EmptyKey", "put the API key there"),
        ({"main": b" \n"}, "EmptyKey", "is empty"),
        ({"main": b"sk-1\nsk-2"}, "UnusableKey", "give each key an entry of its own"),
        ({"main": b"\xff\xfe"}, "UnusableKey", "is not UTF-8 text"),
        ({"main": b"x" * 1025}, "UnusableKey", "is longer than 1024 bytes"),
    ],
)
def test_a_key_that_cannot_be_used_says_the_field_and_the_remedy(secret, reason, words):
    finding = find_key(a_tenant(), 0, secret, PEPPER)
    assert (finding.hash, finding.reason) == (None, reason)
    assert finding.message.startswith("spec.keys[0].secretRef.")
    assert words in finding.message
    keys, ready = say(a_tenant(), finding)
    assert (keys, ready.status, ready.reason) == (0, "False", reason)


def test_the_line_end_that_editors_add_is_no_part_of_a_key():
    assert find_key(a_tenant(), 0, {"main": b"sk-1\r\n"}, PEPPER) == KeyFinding("main", hash_key(PEPPER, "sk-1"))


def test_keys_that_work_are_counted():
    keys, ready = say(a_tenant(), KeyFinding("main", "h"), KeyFinding("second", "i"))
    assert (keys, ready.status, ready.reason, ready.message) == (2, "True", "KeysFound", "2 keys work")


def test_secrets_that_are_not_watched_are_named_with_the_label_that_would_help():
    _, ready = say(a_tenant(), KeyFinding("main", "h"), unwatched=["keys"])
    assert ready.status == "True"
    assert "read again every 5 minutes" in ready.message
    assert ready.message.endswith("kubectl -n a label secret keys penstock.dev/api-keys=true")


def test_a_key_of_another_tenant_is_not_counted():
    keys, ready = say(a_tenant(), KeyFinding("main", "h"), owner=Key("b", "other"))
    assert (keys, ready.reason) == (0, "DuplicateKey")
    assert "spec.keys[0]: Tenant b/other has the same key" in ready.message


def test_every_problem_is_said_and_what_works_all_the_same():
    bad = find_key(a_tenant(), 0, None, PEPPER)
    dangling = reference_problems(a_tenant(allowedRoutes=["chatt"]), Manifest(routes=(CHAT,)))
    keys, ready = say(a_tenant(), bad, KeyFinding("second", "i"), dangling=dangling)
    assert (keys, ready.reason) == (1, "SecretNotFound")
    assert "spec.allowedRoutes[0]" in ready.message
    assert "did you mean chat?" in ready.message
    assert ready.message.endswith("; 1 key works")


def test_a_tenant_without_keys_is_told_so():
    keys, ready = say(a_tenant(keys=[]))
    assert (keys, ready.status, ready.reason) == (0, "False", "NoKeys")


CHAT = parsed(ROUTES, route("a", "chat"), Route)
LLAMA = parsed(MODELS, model("a", "llama", adapters=("sql",)), Model)


def test_routes_models_and_adapters_may_be_allowed():
    resource = a_tenant(allowedRoutes=["chat", "llama", "sql"])
    assert reference_problems(resource, Manifest(models=(LLAMA,), routes=(CHAT,))) == []
