import pytest

from penstock.api import Manifest, check_references, parse_resource
from penstock.catalog import accelerator_classes, models


def resource(kind, name, spec=None, **rest):
    version = "v1" if kind == "Secret" else "penstock.dev/v1alpha1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}
    return parse_resource(body if spec is None else body | {"spec": spec})


def model(name="m", accelerator="nvidia-h100:1", **spec):
    return resource("Model", name, {"preset": "llama-3.1-8b", "accelerator": accelerator} | spec)


def reasons(manifest):
    return [(p.resource.name, p.reason, p.field) for p in check_references(manifest, accelerator_classes(), models())]


def test_resources_that_fit_together_have_no_problem():
    manifest = Manifest(
        models=(model(),),
        routes=(resource("Route", "public", {"backends": [{"model": "m"}]}),),
        secrets=(resource("Secret", "s", stringData={"k": "key"}),),
        tenants=(
            resource(
                "Tenant",
                "t",
                {"keys": [{"name": "a", "secretRef": {"name": "s", "key": "k"}}], "allowedRoutes": ["public", "m"]},
            ),
        ),
    )
    assert reasons(manifest) == []


@pytest.mark.parametrize(
    ("broken", "reason", "field"),
    [
        ({"accelerator": "nvidia-h10:1"}, "AcceleratorClassNotFound", "spec.accelerator"),
        ({"accelerator": "cpu:1"}, "PriceNotFound", "spec.accelerator"),
        ({"preset": "lama"}, "PresetNotFound", "spec.preset"),
    ],
)
def test_a_model_that_names_what_is_not_there(broken, reason, field):
    assert reasons(Manifest(models=(model(**broken), model("fine")))) == [("m", reason, field)]


def test_a_class_of_the_manifest_goes_before_the_catalog():
    spec = {"vendor": "cpu", "memory": "8Gi", "resourceName": "cpu", "price": {"onDemandPerHour": "0.1"}}
    manifest = Manifest(
        models=(model(accelerator="cpu:1"),), accelerator_classes=(resource("AcceleratorClass", "cpu", spec),)
    )
    assert reasons(manifest) == []


def test_routes_and_tenants_that_name_what_is_not_there():
    manifest = Manifest(
        routes=(resource("Route", "r", {"backends": [{"model": "x"}], "fallbacks": ["y"]}),),
        secrets=(resource("Secret", "s", stringData={"k": "key"}),),
        tenants=(
            resource(
                "Tenant",
                "t",
                {
                    "keys": [
                        {"name": "a", "secretRef": {"name": "none", "key": "k"}},
                        {"name": "b", "secretRef": {"name": "s", "key": "none"}},
                    ],
                    "allowedRoutes": ["none"],
                },
            ),
        ),
    )
    assert reasons(manifest) == [
        ("r", "ModelNotFound", "spec.backends[0].model"),
        ("r", "ModelNotFound", "spec.fallbacks[0]"),
        ("t", "SecretNotFound", "spec.keys[0].secretRef.name"),
        ("t", "SecretKeyNotFound", "spec.keys[1].secretRef.key"),
        ("t", "RouteNotFound", "spec.allowedRoutes[0]"),
    ]


def test_a_public_name_belongs_to_one():
    backend = {"backends": [{"model": "m"}]}
    manifest = Manifest(
        models=(model(), model("n", adapters=[{"name": "m", "source": "hf://a/b"}])),
        routes=(resource("Route", "r", backend | {"modelName": "p"}), resource("Route", "p", backend)),
    )
    assert reasons(manifest) == [("p", "NameTaken", "spec.modelName"), ("n", "NameTaken", "spec.adapters[0].name")]


def test_a_route_may_take_over_the_name_of_its_own_model():
    route = resource("Route", "m", {"backends": [{"model": "m"}, {"model": "n"}]})
    assert reasons(Manifest(models=(model(), model("n")), routes=(route,))) == []
