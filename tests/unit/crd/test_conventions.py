"""The definitions keep to the conventions of Kubernetes' APIs."""

import re

import pytest

from penstock.api.crd import CRD_KINDS, custom_resource_definition

LOWER_CAMEL = re.compile(r"[a-z][a-zA-Z0-9]*")
NOT_OURS = {
    "bf16Flops",  # a figure's own name
    "Model.spec.quantization",
    "Model.spec.kvCache.dtype",
    "Model.spec.speculative.method",
}
"""Names that belong to engines and data sheets, written as their owners write them."""


def version(kind):
    (only,) = custom_resource_definition(kind)["spec"]["versions"]
    return only


def fields(schema, path):
    """Yield every schema below one, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(schema["additionalProperties"], f"{path}{{}}")


FIELDS = [
    pytest.param(path, schema, id=path)
    for kind in CRD_KINDS
    for path, schema in fields(version(kind)["schema"]["openAPIV3Schema"], kind)
    if not path.endswith(".metadata")
]


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_field_is_structural_described_and_bounded(path, schema):
    assert not schema.keys() & {"$ref", "$defs", "title", "oneOf", "allOf", "const", "nullable"}
    if not path.endswith(("[]", "{}")):
        assert schema.get("description", "").endswith("."), "describe the field in a sentence"
    if schema.get("x-kubernetes-int-or-string"):
        assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        assert schema["maxLength"] <= 64
        return
    assert "anyOf" not in schema
    assert schema["type"] in {"string", "integer", "boolean", "array", "object"}, "no floats: write quantities"
    if schema["type"] == "string" and path.split(".")[1:] not in (["apiVersion"], ["kind"]):
        assert schema.keys() & {"maxLength", "enum", "format"}, "an unbounded string spends the rules' cost budget"
    if schema["type"] == "integer":
        assert schema["format"] in {"int32", "int64"}
    if schema["type"] == "array":
        assert "maxItems" in schema
        assert schema["x-kubernetes-list-type"] in {"atomic", "set", "map"}
        assert ("x-kubernetes-list-map-keys" in schema) == (schema["x-kubernetes-list-type"] == "map")
    if schema["type"] == "object" and "additionalProperties" in schema:
        assert "maxProperties" in schema


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_name_is_spelt_as_kubernetes_spells(path, schema):
    name = path.rsplit(".", 1)[-1].rstrip("[]{}")
    assert path in CRD_KINDS or LOWER_CAMEL.fullmatch(name)
    assert name not in {"phase", "state"}, "conditions, not phases"
    assert not re.search(r"(Secs|Ms|Millis|Duration|Timestamp)$", name), "durations end in Seconds, times in Time"
    values = schema.get("enum", [])
    if path not in NOT_OURS and not path.endswith("currency"):
        assert all(re.fullmatch(r"[A-Z][A-Za-z0-9]*", value) for value in values), "enums are CamelCase"


MAPS_OF_LABELS = {"nodeSelector", "labels", "annotations"}
"""Maps that Kubernetes itself has; whatever else has names is a list of objects with names."""


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_named_things_are_lists_and_not_maps(path, schema):
    if "additionalProperties" not in schema:
        return
    assert path.rsplit(".", 1)[-1] in MAPS_OF_LABELS
    assert schema["additionalProperties"]["type"] == "string"


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_list_of_objects_is_keyed_by_what_each_must_have(path, schema):
    keys = schema.get("x-kubernetes-list-map-keys", ())
    inner = schema.get("items", {})
    for key in keys:
        assert key in inner["properties"]
        assert key in inner.get("required", ()) or "default" in inner["properties"][key]


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_reference_says_in_its_name_that_it_is_one(path, schema):
    properties = schema.get("properties", {})
    if set(properties) == {"name", "key"}:  # one entry of a Secret or ConfigMap
        assert path.endswith("Ref")


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_number_has_bounds_on_the_side_where_it_would_make_no_sense(path, schema):
    unbounded = ("observedGeneration", "priority", "tolerationSeconds")  # the last is as Kubernetes itself has it
    if schema.get("type") == "integer" and not path.endswith(unbounded):
        assert schema.get("minimum", -1) >= 0 or "exclusiveMinimum" in schema, "say from where on it is valid"


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_rule_says_what_is_wrong_and_what_to_do(path, schema):
    for rule in schema.get("x-kubernetes-validations", ()):
        said = rule.get("message") or rule["messageExpression"]
        assert re.search(r": |, since ", said), "name the value, then the remedy"
        assert not said.rstrip("'").endswith("."), "the API server puts it into a sentence of its own"
        assert rule["reason"] in {"FieldValueInvalid", "FieldValueRequired"}


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_only_the_pod_template_is_open(kind):
    schema = version(kind)["schema"]["openAPIV3Schema"]
    open_fields = [path for path, inner in fields(schema, kind) if "x-kubernetes-preserve-unknown-fields" in inner]
    assert open_fields == (["Model.spec.podTemplate"] if kind == "Model" else [])


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_a_default_is_never_null_and_never_required(kind):
    for path, schema in fields(version(kind)["schema"]["openAPIV3Schema"], kind):
        for name, inner in schema.get("properties", {}).items():
            assert "default" not in inner or name not in schema.get("required", ()), path
            assert "None" not in repr(inner.get("default", ""))


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_status_is_a_subresource_of_conditions(kind):
    assert version(kind)["subresources"]["status"] == {}
    status = version(kind)["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    conditions = status["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
    assert {"type", "status", "reason", "lastTransitionTime"} <= set(conditions["items"]["required"])
    assert "observedGeneration" in conditions["items"]["properties"]
    assert "observedGeneration" in status


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_columns_lead_to_fields_and_end_with_age(kind):
    columns = version(kind)["additionalPrinterColumns"]
    known = {path.removeprefix(kind) for path, _ in fields(version(kind)["schema"]["openAPIV3Schema"], kind)}
    for column in columns:
        path = re.sub(r"conditions\[\?\(@\.type==\"Ready\"\)\]", "conditions[]", column["jsonPath"])
        assert path in known or path == ".metadata.creationTimestamp"
    assert [column["name"] for column in columns if not column.get("priority")][-1] == "Age"


def test_get_models_shows_what_people_ask_first():
    shown = [
        column["name"].upper() for column in version("Model")["additionalPrinterColumns"] if "priority" not in column
    ]
    assert shown == ["READY", "KV%", "QUEUE", "P95-TTFT", "$/MTOK", "IDLE%", "WHY", "AGE"]


def test_autoscalers_find_replicas_and_their_pods():
    scale = version("Model")["subresources"]["scale"]
    known = {path.removeprefix("Model") for path, _ in fields(version("Model")["schema"]["openAPIV3Schema"], "Model")}
    assert set(scale) == {"specReplicasPath", "statusReplicasPath", "labelSelectorPath"}
    assert set(scale.values()) <= known


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_names_stay_out_of_the_way_of_other_groups(kind):
    definition = custom_resource_definition(kind)
    names = definition["spec"]["names"]
    assert names["categories"] == ["penstock"], "never `all`"
    assert all(short.startswith("p") and len(short) > 4 for short in names["shortNames"])
    assert definition["metadata"]["name"] == f"{names['plural']}.penstock.dev"
    assert len([v for v in definition["spec"]["versions"] if v["storage"]]) == 1
