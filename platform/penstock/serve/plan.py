"""From what should run and what does run to the calls that close the gap: pure, and the same for every operator.

The rules come from how Serve behaves:

* A PUT is the whole set, so every desired application is in every PUT, and there is a PUT only when the set or a
  configuration differs: an identical one is no rollout and would only be noise.
* A PUT sets the replica count, so it carries the live one; zero is refused there, so it carries 1 and a scale call
  brings it to zero.
* A scale call during a build is answered and lost, so none is made before the deployment is there; whether one worked
  is read from the next status, because the plan is made anew from what is observed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.serve.applications import DEPLOYMENT, Application, ServeOptions, application_config
from penstock.serve.errors import ApplicationClashError
from penstock.serve.status import ObservedApplication, ObservedReplica, ServeStatus


class DesiredApplication(msgspec.Struct, frozen=True, kw_only=True):
    """An application that should run, and with how many replicas."""

    application: Application
    target: int
    as_it_runs: bool = False
    """Keep the configuration that Serve has, whatever `application` says: it only drains, or cannot be made anew."""


class PutConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Replace the whole set of applications."""

    body: dict[str, Any]
    changed: tuple[str, ...]
    """Applications that are new or differ: one of these is to blame when Serve refuses the whole."""
    victims: tuple[str, ...] = ()
    """Replicas of applications that are left out: routing must leave them before the call is made."""


class ScaleTo(msgspec.Struct, frozen=True, kw_only=True):
    """Bring one application to a number of replicas."""

    application: str
    deployment: str
    replicas: int
    victims: tuple[str, ...] = ()
    """Replicas that Ray is expected to stop: routing must leave them before the call is made."""


Action = PutConfig | ScaleTo


def plan(desired: Sequence[DesiredApplication], observed: ServeStatus, options: ServeOptions) -> tuple[Action, ...]:
    """Return the calls that bring Serve from what is observed to what is desired, in order; often none.

    A plan with a PUT holds nothing else: what follows it depends on what Serve makes of it.

    Raises:
        ApplicationClashError: two desired applications have one name.
    """
    _check_names(desired)
    changed = tuple(
        want.application.name
        for want in desired
        if not _is_applied(want, observed.applications.get(want.application.name))
    )
    wanted = {want.application.name for want in desired}
    superfluous = {name for name, app in observed.applications.items() if app.status != "DELETING"} - wanted
    if changed or superfluous:
        victims = tuple(
            replica.id
            for name in sorted(superfluous)
            for replica in observed.applications[name].replicas
            if replica.state == "RUNNING"
        )
        return (PutConfig(body=whole_config(desired, observed, options), changed=changed, victims=victims),)
    return tuple(_scale_calls(desired, observed))


def whole_config(desired: Iterable[DesiredApplication], observed: ServeStatus, options: ServeOptions) -> dict[str, Any]:
    """Return the body of a PUT with every desired application at its live count."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": options.http_host, "port": options.http_port},
        "applications": [_config(want, observed.applications.get(want.application.name)) for want in desired],
    }


def predict_victims(
    application: ObservedApplication,
    replicas: int,
    everything: ServeStatus,
    head_node_id: str | None = None,
) -> tuple[str, ...]:
    """Return the replicas that Ray will stop when `application` is brought down to `replicas`, in Ray's own order.

    Ray takes those that do not run yet, then those off the head node, then those on nodes with the fewest replicas of
    any application, then the newest (`DeploymentScheduler._get_replicas_to_stop` in Ray 2.60; its preference for nodes
    that miss a label cannot be seen from outside). A misprediction is seen in the next status and mended there.
    """
    live = [replica for replica in application.replicas if replica.is_live]
    surplus = max(0, len(live) - replicas)
    crowd: dict[str, int] = {}
    for app in everything.applications.values():
        for replica in app.replicas:
            if replica.state == "RUNNING":
                crowd[replica.node_id] = crowd.get(replica.node_id, 0) + 1

    def order(replica: ObservedReplica) -> tuple[bool, bool, int, str, float]:
        node = replica.node_id
        return (
            replica.state == "RUNNING",
            node == head_node_id,
            crowd.get(node, 0),
            node,
            -replica.started_s,
        )

    return tuple(replica.id for replica in sorted(live, key=order)[:surplus])


def without_refused(
    desired: Sequence[DesiredApplication],
    suspects: Iterable[str],
    last_good: Mapping[str, Application],
) -> tuple[DesiredApplication, ...]:
    """Return the desired set with each suspect at its last good configuration, or left out when it never had one."""
    doubtful = set(suspects)
    kept = []
    for want in desired:
        name = want.application.name
        if name not in doubtful:
            kept.append(want)
        elif name in last_good:
            kept.append(msgspec.structs.replace(want, application=last_good[name]))
    return tuple(kept)


def _check_names(desired: Iterable[DesiredApplication]) -> None:
    seen: dict[str, Application] = {}
    for want in desired:
        app = want.application
        other = seen.setdefault(app.name, app)
        if other is not app:
            raise ApplicationClashError(
                f"models {other.model!r} and {app.model!r} both compile to the application {app.name!r}; rename one"
            )


def _is_applied(want: DesiredApplication, observed: ObservedApplication | None) -> bool:
    if observed is None or observed.config is None or observed.status == "DELETING":
        return False
    return want.as_it_runs or contains(observed.config, application_config(want.application, replicas=None))


def _config(want: DesiredApplication, observed: ObservedApplication | None) -> dict[str, Any]:
    count = _live_count(want, observed)
    if not want.as_it_runs or observed is None or observed.config is None:
        return application_config(want.application, count)
    deployments = [{**deployment, "num_replicas": count} for deployment in observed.config.get("deployments") or []]
    return {**observed.config, "deployments": deployments}


def contains(have: Any, want: Any) -> bool:
    """Say whether JSON data holds all of `want`: a server may add to what it was given, as defaults or empty values."""
    if isinstance(want, Mapping):
        return isinstance(have, Mapping) and all(
            (key in have and contains(have[key], value)) or (key not in have and value is None)
            for key, value in want.items()
        )
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(contains(mine, theirs) for mine, theirs in zip(have, want, strict=True))
        )
    return bool(have == want)


def _live_count(want: DesiredApplication, observed: ObservedApplication | None) -> int:
    live = want.target if observed is None or observed.target is None else observed.target
    return max(1, live)


def _scale_calls(desired: Iterable[DesiredApplication], observed: ServeStatus) -> Iterable[ScaleTo]:
    for want in desired:
        app = observed.applications.get(want.application.name)
        if app is None or app.deployment is None or app.target == want.target:
            continue
        yield ScaleTo(
            application=app.name,
            deployment=DEPLOYMENT,
            replicas=want.target,
            victims=predict_victims(app, want.target, observed),
        )
