"""The store tells exactly what changed, and its indexes always agree with its objects."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_kube.resources import Key
from penstock_kube.store import Change, Store

NAMES = st.sampled_from(["a", "b", "c", "d"])
OBJECTS = st.builds(
    lambda name, version, colour: {
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": str(version)},
        "colour": colour,
    },
    NAMES,
    st.integers(1, 3),
    st.sampled_from(["red", "blue"]),
)
LISTS = st.lists(OBJECTS, unique_by=lambda obj: obj["metadata"]["name"])


def by_colour():
    return Store({"colour": lambda obj: [obj["colour"]]})


def replay(changes, before):
    """Apply changes to a plain dictionary."""
    after = dict(before)
    for change in changes:
        if change.new is None:
            del after[change.key]
        else:
            after[change.key] = change.new
    return after


@given(first=LISTS, second=LISTS)
def test_the_changes_of_a_replace_lead_from_the_old_content_to_the_new(first, second):
    store = by_colour()
    content = replay(store.replace(first), {})
    content = replay(store.replace(second), content)
    assert [content[key] for key in sorted(content)] == store.all()
    assert {key.name for key in content} == {obj["metadata"]["name"] for obj in second}


@given(lists=st.lists(LISTS, max_size=4), removed=st.lists(NAMES))
def test_an_index_finds_what_a_search_finds(lists, removed):
    store = by_colour()
    for items in lists:
        store.replace(items)
    for name in removed:
        store.remove(Key("ns", name))
    for colour in ("red", "blue"):
        assert store.by_index("colour", colour) == [obj for obj in store.all() if obj["colour"] == colour]


def test_the_same_version_again_is_no_change():
    store = by_colour()
    obj = {"metadata": {"namespace": "ns", "name": "a", "uid": "1", "resourceVersion": "5"}, "colour": "red"}
    assert store.put(obj) == Change(None, obj)
    assert store.put({**obj}) is None


def test_an_object_made_anew_under_its_old_name_is_a_change():
    store = by_colour()
    obj = {"metadata": {"namespace": "ns", "name": "a", "uid": "1", "resourceVersion": "5"}, "colour": "red"}
    again = {**obj, "metadata": {**obj["metadata"], "uid": "2"}}
    store.put(obj)
    assert store.put(again) == Change(obj, again)


def test_field_managers_are_not_kept():
    store = by_colour()
    metadata = {"namespace": "ns", "name": "a", "uid": "1", "resourceVersion": "5", "managedFields": [{}]}
    store.put({"metadata": metadata, "colour": "red"})
    assert "managedFields" not in store.get("ns", "a")["metadata"]


def test_all_keeps_to_a_namespace():
    store = Store()
    for namespace in ("x", "y"):
        store.put({"metadata": {"namespace": namespace, "name": "a", "resourceVersion": "1"}})
    assert [obj["metadata"]["namespace"] for obj in store.all("x")] == ["x"]


def test_what_nobody_reads_is_taken_out_before_anybody_sees_it():
    store = Store({"colour": lambda obj: [obj["colour"]]}, trim=lambda obj: obj.pop("large"))
    metadata = {"namespace": "ns", "name": "a", "uid": "a", "resourceVersion": "1"}
    change = store.put({"metadata": metadata, "colour": "red", "large": "x"})
    assert change.new == {"metadata": metadata, "colour": "red"}
    assert store.by_index("colour", "red") == [change.new]
