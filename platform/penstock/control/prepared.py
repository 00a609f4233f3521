"""What became of a Model: the applications to give to Serve, or the obstacle in the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.api.model import Model
from penstock.control.conditions import Obstacle
from penstock.serve.applications import Application


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one model: applications, one per placement in their order, or an obstacle."""

    model: Model
    applications: tuple[Application, ...] = ()
    obstacle: Obstacle | None = None


def told_apart(prepared: Iterable[Prepared]) -> tuple[list[Prepared], list[str]]:
    """Return the models that one Serve can tell apart, and what is wrong with the others, in words.

    One whose application has the name of an earlier model's gets an obstacle. One that has an earlier model's own name,
    in another namespace, is left out: nobody could say which of the two a request or a status is about.
    """
    kept: dict[str, Prepared] = {}
    owners: dict[str, str] = {}
    problems: list[str] = []
    for item in prepared:
        name = item.model.name
        if name in kept:
            text = f"Model {item.model.namespace}/{name}: there is a Model {kept[name].model.namespace}/{name} as well"
            problems.append(f"{text}, and namespaces are not told apart on one machine; rename one of them")
            continue
        taken = next((app.name for app in item.applications if owners.setdefault(app.name, name) != name), None)
        if taken is None:
            kept[name] = item
            continue
        text = f"metadata.name: model {owners[taken]!r} comes to the same Serve application {taken!r}; rename one"
        kept[name] = Prepared(model=item.model, obstacle=Obstacle(reason="NameTaken", message=text))
    return list(kept.values()), problems
