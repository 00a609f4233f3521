"""Which Models a namespace has, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.manifest import ResourceKey
from penstock.api.model import Model
from penstock.control.conditions import Obstacle
from penstock.control.prepared import Prepared
from penstock.routing.published import GROUP_LABEL
from penstock_operator.pool.groups import WorkerGroup, worker_group
from penstock_operator.pool.shared import Shared
from penstock_operator.typed import Invalid

_VLLM = "vllm"


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """The Models of a namespace at one moment."""

    items: tuple[Prepared, ...] = ()
    """Those that are wanted."""
    groups: Mapping[str, WorkerGroup] = {}
    """Worker groups that they ask for, by name."""
    going: frozenset[str] = frozenset()
    """Those that are being deleted."""
    invalid: Mapping[str, str] = {}
    """Those that cannot be read, and why: what runs of them stays."""
    generations: Mapping[str, int] = {}
    engines: Mapping[str, str] = {}
    """Engine of every Model that is there, by name."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no Model at all."""
        return not self.generations


class Census:
    """Reads the Models of one namespace; what becomes of each is worked out once a generation."""

    def __init__(self, namespace: str, shared: Shared) -> None:
        self._namespace = namespace
        self._shared = shared
        self._groups: dict[str, tuple[Prepared, tuple[WorkerGroup, ...]]] = {}

    def take(self) -> Roster:
        """Return the Models as they are now."""
        items: list[Prepared] = []
        groups: dict[str, WorkerGroup] = {}
        going: set[str] = set()
        invalid: dict[str, str] = {}
        generations: dict[str, int] = {}
        engines: dict[str, str] = {}
        classes = self._shared.classes.all()
        for obj in self._shared.world.models.all(self._namespace):
            name = obj["metadata"]["name"]
            generations[name] = obj["metadata"].get("generation") or 0
            model = self._shared.typed.models.of(obj)
            engines[name] = _VLLM if isinstance(model, Invalid) else model.spec.engine.name.lower()
            if obj["metadata"].get("deletionTimestamp"):
                going.add(name)
            elif isinstance(model, Invalid):
                invalid[name] = model.message
            else:
                item = self._prepare(model, classes)
                items.append(item)
                groups |= {group.name: group for group in self._groups_of(item, classes)}
        self._groups = {name: known for name, known in self._groups.items() if name in generations}
        return Roster(
            items=tuple(items),
            groups=groups,
            going=frozenset(going),
            invalid=invalid,
            generations=generations,
            engines=engines,
        )

    def _prepare(self, model: Model, classes: Mapping[str, AcceleratorClass]) -> Prepared:
        taken = self._shared.names.problem(ResourceKey(Model.KIND, model.namespace, model.name))
        return self._shared.preparations.prepare(model, classes, name_taken=taken)

    def _groups_of(self, item: Prepared, classes: Mapping[str, AcceleratorClass]) -> tuple[WorkerGroup, ...]:
        known = self._groups.get(item.model.name)
        if known is None or known[0] is not item:
            options, model = self._shared.settings.ray, item.model
            made = () if item.obstacle is not None else model.placements
            groups = tuple(worker_group(model, place, classes[place.accelerator_class], options) for place in made)
            known = self._groups[model.name] = (item, groups)
        return known[1]


def without_refused(items: tuple[Prepared, ...], refused: Mapping[str, str]) -> list[Prepared]:
    """Return the Models; one whose worker group the API server does not take has that as its obstacle."""
    return [_unless_refused(item, refused) for item in items]


def _unless_refused(item: Prepared, refused: Mapping[str, str]) -> Prepared:
    groups = (app.labels.get(GROUP_LABEL, "") for app in item.applications)
    why = next((refused[group] for group in groups if group in refused), None)
    if why is None:
        return item
    text = f"spec.podTemplate: the API server does not take the pods that it makes: {why}; mend it"
    return Prepared(model=item.model, obstacle=Obstacle(reason="PodTemplateInvalid", message=text, fits=True))
