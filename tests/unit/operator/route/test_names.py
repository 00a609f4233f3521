"""The book of names agrees with the pure answer at every moment, and tells of each verdict that changes."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.api import Model, ResourceKey, Route
from penstock_kube.resources import MODELS, ROUTES, Key, key_of
from penstock_operator.route.claims import claims
from penstock_operator.route.names import NameBook
from penstock_operator.typed import Typed
from tests.unit.operator.objects import HandMirror, model, route


class Book:
    def __init__(self):
        self.mirrors = {"Model": HandMirror(MODELS), "Route": HandMirror(ROUTES)}
        self.models, self.routes = Typed(Model, self.mirrors["Model"]), Typed(Route, self.mirrors["Route"])
        self.names = NameBook(self.models, self.routes)
        self.told = []
        self.names.on_change(self.told.append)

    def put(self, *objects):
        for obj in objects:
            self.mirrors[obj["kind"]].put(obj)

    def lost(self):
        keys = [ResourceKey(kind, *key_of(obj)) for kind, mirror in self.mirrors.items() for obj in mirror.all()]
        return {key: text for key in keys if (text := self.names.problem(key)) is not None}


def test_a_name_that_its_holder_gives_up_goes_to_the_next_who_is_told():
    book = Book()
    book.put(model("a", "llama", 1), model("b", "llama", 2))
    loser = ResourceKey("Model", "b", "llama")
    assert set(book.lost()) == {loser}
    book.told.clear()
    book.mirrors["Model"].remove("a", "llama")
    assert book.lost() == {}
    assert book.told == [loser]


def test_a_change_that_moves_no_name_is_told_to_nobody():
    book = Book()
    book.put(model("a", "llama"), model("b", "llama", 2))
    book.told.clear()
    book.put(model("a", "llama", labels={"x": "y"}), model("c", "other", 3))
    assert book.told == []


def test_adapters_without_their_names_are_known():
    book = Book()
    book.put(model("a", "sql", 1), model("b", "llama", 2, adapters=("sql", "chat")))
    key = ResourceKey("Model", "b", "llama")
    assert book.names.problem(key) is None
    assert list(book.names.lost_adapters(key)) == ["sql"]
    (condition,) = book.names.adapter_conditions(Key("b", "llama"))
    assert (condition.type, condition.status, condition.reason) == ("AdaptersNamed", "False", "NameTaken")
    assert condition.message.startswith("spec.adapters[0].name: the public name 'sql' belongs to Model a/sql already")
    assert condition.message.endswith("; the Model is served without sql")
    assert book.names.adapter_conditions(Key("a", "sql")) == ()


def test_what_cannot_be_read_keeps_its_name():
    book = Book()
    broken = {**model("a", "llama", 1), "spec": {"of": "a later release"}}
    unreadable_route = {**route("a", "chat", 1), "spec": {"modelName": "gpt", "of": "a later release"}}
    book.put(broken, unreadable_route, model("b", "llama", 2), route("b", "r", 2, public="gpt"))
    assert set(book.lost()) == {ResourceKey("Model", "b", "llama"), ResourceKey("Route", "b", "r")}


SPACES, NAMES = st.sampled_from("ab"), st.sampled_from("xyz")
OBJECTS = st.one_of(
    st.builds(
        lambda space, name, created, adapters: model(space, name, created, adapters=tuple(adapters)),
        *(SPACES, NAMES, st.integers(1, 3), st.lists(NAMES, max_size=2, unique=True)),
    ),
    st.builds(
        lambda space, name, created, backends, public: route(
            space, name, created, backends=tuple(backends), public=public
        ),
        *(SPACES, NAMES, st.integers(1, 3), st.lists(NAMES, min_size=1, unique=True), st.none() | NAMES),
    ),
)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "put", "remove"]), OBJECTS), max_size=14)


@given(STEPS)
def test_after_any_history_the_book_says_what_the_pure_answer_says(steps):
    book = Book()
    for step, obj in steps:
        before, told = book.lost(), len(book.told)
        if step == "put":
            book.put(obj)
        elif book.mirrors[obj["kind"]].get(*key_of(obj)) is not None:
            book.mirrors[obj["kind"]].remove(*key_of(obj))
        after = book.lost()
        assert after == claims(book.models.all(), book.routes.all())
        still = before.keys() & after.keys()
        flipped = {key for key in still if before[key] != after[key]} | (after.keys() - before.keys())
        assert flipped <= set(book.told[told:])
