from penstock.api.manifest import KINDS


def described(schema, part):
    """A field that refers to an object of the same description leaves its own out."""
    target = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else {}
    return part.get("description") or target.get("description")


def objects():
    for kind in KINDS.values():
        schema = kind.model_json_schema(by_alias=True)
        for name, part in {kind.KIND: schema, **schema.get("$defs", {})}.items():
            if part.get("type") == "object":
                yield name, part, schema


def test_every_field_is_described():
    bare = [f"{n}.{f}" for n, o, s in objects() for f, part in o["properties"].items() if not described(s, part)]
    assert bare == []


def test_every_object_refuses_unknown_fields():
    assert [name for name, part, _ in objects() if part.get("additionalProperties") is not False] == []
