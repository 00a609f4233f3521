"""Plans are carried out so that one bad application harms no other and no stream notices a scale-down."""

import pytest

from penstock.control.reconciler import Reconciler, still_leaving
from penstock.serve.applications import ServeOptions
from penstock.serve.errors import ServeNotFoundError, ServeRefusedError
from penstock.serve.plan import DesiredApplication, PutConfig, ScaleTo
from tests.unit.serve.fakes import Serve, application

pytestmark = pytest.mark.anyio


class Client:
    """A Serve that refuses what has the flag `--bad`, and writes down in which order it was asked."""

    def __init__(self) -> None:
        self.serve = Serve()
        self.calls: list[str] = []
        self.unknown: set[str] = set()
        """Applications whose scale calls fail."""

    async def put(self, body):
        self.calls.append("put " + ",".join(app["name"] for app in body["applications"]))
        for app in body["applications"]:
            if "--bad" in app["args"]["argv"]:
                raise ServeRefusedError(400, f"{app['name']} has --bad")
        self.serve.apply(PutConfig(body=body, changed=()))
        self.serve.build()

    async def scale(self, name, deployment, replicas):
        self.calls.append(f"scale {name} {replicas}")
        if name in self.unknown:
            raise ServeNotFoundError(404, f"no deployment of {name}")
        self.serve.apply(ScaleTo(application=name, deployment=deployment, replicas=replicas))


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def reconciler(client) -> Reconciler:
    async def route_away(victims):
        client.calls.append(f"route away from {','.join(sorted(victims))}")

    return Reconciler(client, ServeOptions(http_host="127.0.0.1"), route_away)


def want(name, *argv, target=1):
    return DesiredApplication(application=application(name, ("--model", "x", *argv)), target=target)


async def test_routing_leaves_an_application_before_serve_deletes_it(client, reconciler):
    await reconciler.reconcile([want("a"), want("b")], client.serve.status())
    client.calls.clear()
    await reconciler.reconcile([want("a")], client.serve.status())
    assert client.calls == ["route away from b-0", "put a"]


async def test_an_application_that_only_drains_keeps_the_configuration_that_serve_has(client, reconciler):
    await reconciler.reconcile([want("a", "--old", target=2)], client.serve.status())
    config = client.serve.configs["a"]["args"]
    drains = DesiredApplication(application=application("a", ("--guessed",)), target=0, as_it_runs=True)
    client.calls.clear()
    await reconciler.reconcile([drains], client.serve.status())
    assert client.calls == ["route away from a-0,a-1", "scale a 0"]
    await reconciler.reconcile([drains, want("b")], client.serve.status())
    assert client.serve.configs["a"]["args"] == config


async def test_routing_leaves_the_victims_before_serve_stops_them(client, reconciler):
    await reconciler.reconcile([want("a", target=2)], client.serve.status())
    client.calls.clear()
    await reconciler.reconcile([want("a", target=1)], client.serve.status())
    assert client.calls == ["route away from a-1", "scale a 1"]
    assert reconciler.leaving == {"a-1"}
    await reconciler.reconcile([want("a", target=1)], client.serve.status())
    assert reconciler.leaving == frozenset()


async def test_a_scale_call_that_serve_does_not_take_holds_no_other_up(client, reconciler):
    await reconciler.reconcile([want("a"), want("b")], client.serve.status())
    client.unknown = {"a"}
    with pytest.raises(ServeNotFoundError):
        await reconciler.reconcile([want("a", target=2), want("b", target=2)], client.serve.status())
    assert client.serve.targets == {"a": 1, "b": 2}


async def test_scaling_up_troubles_no_gateway(client, reconciler):
    await reconciler.reconcile([want("a")], client.serve.status())
    client.calls.clear()
    await reconciler.reconcile([want("a", target=3)], client.serve.status())
    assert client.calls == ["scale a 3"]


async def test_the_refused_one_of_several_is_found_and_the_others_run(client, reconciler):
    desired = [want("good"), want("bad", "--bad"), want("new")]
    for _ in range(3):
        await reconciler.reconcile(desired, client.serve.status())
    assert client.serve.targets == {"good": 1, "new": 1}
    assert reconciler.refusal("bad") == "bad has --bad"
    assert reconciler.refusal("good") is None
    client.calls.clear()
    await reconciler.reconcile(desired, client.serve.status())
    assert client.calls == [], "what was refused is not sent again as it is"


async def test_an_edit_that_serve_refuses_leaves_the_last_good_one_running(client, reconciler):
    await reconciler.reconcile([want("a"), want("b")], client.serve.status())
    await reconciler.reconcile([want("a", "--bad"), want("b")], client.serve.status())
    await reconciler.reconcile([want("a", "--bad"), want("b", target=2)], client.serve.status())
    assert client.serve.targets == {"a": 1, "b": 2}
    assert reconciler.refusal("a") is not None
    await reconciler.reconcile([want("a", "--mended"), want("b", target=2)], client.serve.status())
    assert reconciler.refusal("a") is None
    assert client.serve.configs["a"]["args"]["argv"][-1] == "--mended"


async def test_a_set_that_serve_refuses_with_nothing_new_in_it_is_an_error(client, reconciler):
    client.serve.put({"applications": []})
    client.serve.configs = {"old": {"name": "old", "args": {}}}
    client.serve.targets = {"old": 1}

    async def refuse(body):
        raise ServeRefusedError(400, "no")

    client.put = refuse
    with pytest.raises(ServeRefusedError):
        await reconciler.reconcile([], client.serve.status())


async def test_a_replica_that_ray_spared_serves_on(client, reconciler):
    await reconciler.reconcile([want("a", target=2)], client.serve.status())
    client.serve.targets["a"] = 1
    assert still_leaving(frozenset({"a-0"}), client.serve.status()) == frozenset()
