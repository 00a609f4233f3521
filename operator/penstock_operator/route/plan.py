"""What to say of a Route: where its requests go, and what keeps it from being as its spec says. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from penstock.api.manifest import Manifest
from penstock.api.model import Model
from penstock.api.references import check_references
from penstock.api.route import Route
from penstock_operator.runtime.conditions import Condition


def shares(route: Route) -> str:
    """Return a Route's backends with their shares of its requests, for kubectl get: `llama=90%,llama-next=10%`."""
    total = sum(backend.weight for backend in route.spec.backends)
    return ",".join(f"{backend.model}={_percent(backend.weight, total)}" for backend in route.spec.backends)


def judge(route: Route, name_problem: str | None, models: Iterable[Model], answers: Callable[[str], bool]) -> Condition:
    """Return whether a Route is as its spec says and leads to a Model that answers.

    Args:
        route: the Route.
        name_problem: what to say of its public name when another has it.
        models: Models of its namespace that have their names.
        answers: tells whether a Model answers requests, by name.
    """
    if name_problem is not None:
        return Condition("Ready", "False", "NameTaken", name_problem)
    manifest = Manifest(models=tuple(models), routes=(route,))
    dangling = [problem for problem in check_references(manifest) if problem.resource.kind == Route.KIND]
    wanted = [backend.model for backend in route.spec.backends if backend.weight] + list(route.spec.fallbacks)
    answering = [name for name in wanted if any(name == model.name for model in manifest.models) and answers(name)]
    if dangling:
        texts = "; ".join(f"{problem.field}: {problem.message}" for problem in dangling)
        rest = f"; requests go to {', '.join(answering)} meanwhile" if answering else ""
        return Condition("Ready", "False", dangling[0].reason, texts + rest)
    if not answering:
        message = f"none of {', '.join(wanted)} answers: see kubectl -n {route.namespace} describe model {wanted[0]}"
        return Condition("Ready", "False", "ModelsNotReady", message)
    return Condition("Ready", "True", "Routed", f"requests for {route.model_name!r} are answered")


def _percent(weight: int, total: int) -> str:
    """Return a share in percent, with as many digits as tell it from none and from all."""
    share = 100 * weight / total
    for digits in (0, 1, 2):
        text = f"{share:.{digits}f}"
        if weight in (0, total) or 0 < float(text) < 100:
            return f"{text}%"
    return "<0.01%" if share < 50 else ">99.99%"
