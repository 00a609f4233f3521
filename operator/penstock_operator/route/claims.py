"""Who has which public model name. Pure.

Clients of a gateway name a model and nothing else, so that a name has one holder over all watched namespaces: the
oldest object that claims it. Age is `creationTimestamp`, which no edit moves; of two from the same second the first by
namespace and name. An object that is being deleted keeps its names until it is gone, since its replicas still run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from penstock.api.manifest import ResourceKey
from penstock.api.model import Model
from penstock.api.references import NameClaim, contest, name_claims, name_taken
from penstock.api.route import Route

Age = tuple[str, str, str, str]
"""Sorts claimants, the oldest first."""


def claims(models: Iterable[Model], routes: Iterable[Route]) -> Mapping[ResourceKey, str]:
    """Return, for each Model and Route that lost its own name, what to say of it; such an object is not served.

    A Model that lost only the name of an adapter is served without it, and is not among these.
    """
    by_name: dict[str, list[tuple[Age, NameClaim]]] = {}
    claimants: tuple[Model | Route, ...] = (*models, *routes)
    for claimant in claimants:
        for claim in name_claims(claimant):
            by_name.setdefault(claim.name, []).append((age(claimant), claim))
    lost: dict[ResourceKey, str] = {}
    for same in by_name.values():
        for claim, text in lost_claims(same).items():
            if is_own_name(claim):
                lost[claim.claimant] = text
    return lost


def age(resource: Model | Route) -> Age:
    """Return what sorts claimants, the oldest first."""
    return (resource.metadata.creation_timestamp or "", resource.namespace, resource.name, resource.KIND)


def lost_claims(same: Sequence[tuple[Age, NameClaim]]) -> Mapping[NameClaim, str]:
    """Return the claims in vain of one name, each with what to say of it.

    Args:
        same: every claim of the name, at least one, in any order.
    """
    holder, losers = contest([claim for _, claim in sorted(same, key=lambda aged: aged[0])])
    return {claim: f"{claim.field}: {name_taken(claim, holder).message}" for claim in losers}


def is_own_name(claim: NameClaim) -> bool:
    """Return whether the object is nothing without the name, unlike a Model without one of its adapters."""
    return claim.field in {"metadata.name", "spec.modelName"}
