"""The book of public names: `claims`, kept current change by change, so that a thousand Models cost nothing to ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from penstock.api.manifest import ResourceKey
from penstock.api.model import Model
from penstock.api.references import NameClaim, name_claims
from penstock.api.route import Route
from penstock_kube.resources import Key, Object
from penstock_kube.store import Change
from penstock_operator.route.claims import Age, is_own_name, lost_claims
from penstock_operator.runtime.conditions import Condition
from penstock_operator.typed import Invalid, Typed

NameListener = Callable[[ResourceKey], None]
"""Called with the key of a Model or Route that lost a name or got one back."""


class NameBook:
    """Who lost which name, as of the mirrors."""

    def __init__(self, models: Typed[Model], routes: Typed[Route]) -> None:
        """Follow two mirrors; objects that are there already are counted at once."""
        self._claims: dict[ResourceKey, dict[NameClaim, Age]] = {}
        self._by_name: dict[str, dict[NameClaim, Age]] = defaultdict(dict)
        self._lost: dict[ResourceKey, dict[NameClaim, str]] = {}
        self._listeners: list[NameListener] = []
        for typed in (models, routes):
            for reflector in typed.mirror.reflectors:
                reflector.add_handler(lambda change, typed=typed: self._changed(typed, change))  # type: ignore[misc]

    def on_change(self, listener: NameListener) -> None:
        """Have `listener` called whenever an object loses a name or gets one back."""
        self._listeners.append(listener)

    def problem(self, key: ResourceKey) -> str | None:
        """Return what to say of an object that lost its own name and is not to be served; None when it has it."""
        return next((text for claim, text in self._lost.get(key, {}).items() if is_own_name(claim)), None)

    def lost_adapters(self, key: ResourceKey) -> Mapping[str, str]:
        """Return the adapters of a Model that others have the names of, each with what to say of it."""
        return {claim.name: text for claim, text in self._lost.get(key, {}).items() if not is_own_name(claim)}

    def adapter_conditions(self, model: Key) -> tuple[Condition, ...]:
        """Return what there is to say of a Model beside what its pool says: adapters that others have the names of."""
        lost = self.lost_adapters(ResourceKey(Model.KIND, *model))
        if not lost:
            return ()
        message = f"{'; '.join(lost.values())}; the Model is served without {', '.join(lost)}"
        return (Condition("AdaptersNamed", "False", "NameTaken", message),)

    def _changed(self, typed: Typed[Model] | Typed[Route], change: Change) -> None:
        obj = change.new or change.old or {}
        key = ResourceKey(obj["kind"], change.key.namespace, change.key.name)
        fresh = {} if change.new is None else _claims_of(typed.of(change.new), change.new, key)
        before = self._claims.pop(key, {})
        if fresh:
            self._claims[key] = fresh
        if fresh == before:
            return
        for claim in before:
            del self._by_name[claim.name][claim]
        for claim, age in fresh.items():
            self._by_name[claim.name][claim] = age
        self._judge({claim.name for claim in (*before, *fresh)}, {*before, *fresh})

    def _judge(self, names: Iterable[str], gone: Iterable[NameClaim]) -> None:
        """Settle some names anew, and tell of every object for which that makes a difference."""
        touched = {claim.claimant for claim in gone}
        verdicts: dict[NameClaim, str] = {}
        for name in names:
            same = self._by_name[name]
            touched |= {claim.claimant for claim in same}
            if same:
                verdicts |= lost_claims([(age, claim) for claim, age in same.items()])
            else:
                del self._by_name[name]
        for key in touched:
            before = self._lost.pop(key, {})
            others = {claim: text for claim, text in before.items() if claim.name not in names}
            lost = others | {claim: text for claim, text in verdicts.items() if claim.claimant == key}
            if lost:
                self._lost[key] = lost
            if lost != before:
                for listener in self._listeners:
                    listener(key)


def _claims_of(typed: Model | Route | Invalid, obj: Object, key: ResourceKey) -> dict[NameClaim, Age]:
    age = (obj["metadata"].get("creationTimestamp", ""), key.namespace, key.name, key.kind)
    if not isinstance(typed, Invalid):
        return dict.fromkeys(name_claims(typed), age)
    # Nobody is to take the name of what only this version cannot read.
    field = "metadata.name" if key.kind == Model.KIND else "spec.modelName"
    given = (obj.get("spec") or {}).get("modelName") if key.kind == Route.KIND else None
    return {NameClaim(given if isinstance(given, str) and given else key.name, key, field): age}
