from pydantic import BaseModel

from penstock.api.manifest import KINDS


def schemas():
    for kind in KINDS.values():
        schema = kind.model_json_schema(by_alias=True)
        yield kind.KIND, schema
        for name, part in schema.get("$defs", {}).items():
            if part.get("type") == "object":
                yield name, part


def test_every_field_is_described():
    bare = [
        f"{name}.{field}" for name, s in schemas() for field, f in s["properties"].items() if "description" not in f
    ]
    assert bare == []


def test_every_object_refuses_unknown_fields():
    assert [name for name, schema in schemas() if schema.get("additionalProperties") is not False] == []


def test_every_kind_can_be_made_from_python_names():
    for kind in KINDS.values():
        assert issubclass(kind, BaseModel)
        assert kind.model_config["validate_by_name"]
