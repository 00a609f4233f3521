"""Applications that Serve has and this process did not make, but an earlier leader did. Pure.

Their names say which Model and AcceleratorClass they are of; what they run stands in Serve's own configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from penstock.api.accelerator_class import AcceleratorClass, Purchase
from penstock.cost.records import ReplicaEvent, ReplicaEventKind
from penstock.serve.applications import Application
from penstock.serve.status import ObservedApplication


def adopted(
    observed: ObservedApplication, models: Mapping[str, str], classes: Mapping[str, AcceleratorClass]
) -> Application | None:
    """Return an application as far as it can be told from its name and configuration; None when it is no one's.

    Args:
        observed: As Serve has it.
        models: Engine of each Model of the namespace, by name.
        classes: All AcceleratorClasses by name.
    """
    model = _longest(observed.name, models)
    if model is None:
        return None
    rest = observed.name.removeprefix(f"{model}--")
    name = _longest(rest, classes)
    if name is None:
        # Its class is gone, and its price with it.
        name, accelerator = rest.partition("--")[0], None
    else:
        accelerator = classes[name]
    purchase = Purchase.SPOT if "spot" in rest.removeprefix(name).split("--") else Purchase.ON_DEMAND
    config = observed.config or {}
    deployment: Mapping[str, Any] = next(iter(config.get("deployments") or ()), {})
    actor = deployment.get("ray_actor_options") or {}
    count = _count(actor)
    return Application(
        name=observed.name,
        model=model,
        accelerator_class=name,
        accelerators=count,
        purchase=purchase.value,
        usd_per_hour=_price(accelerator, purchase) * count,
        engine=models[model],
        argv=tuple((config.get("args") or {}).get("argv") or ()),
        num_cpus=float(actor.get("num_cpus") or 0),
        num_gpus=float(actor.get("num_gpus") or 0),
        resources=dict(actor.get("resources") or {}),
        env=dict((actor.get("runtime_env") or {}).get("env_vars") or {}),
        drain_timeout_s=float(deployment.get("graceful_shutdown_timeout_s") or 0),
        labels=dict(actor.get("label_selector") or {}),
    )


def ended_unseen(
    replicas: Mapping[str, str], models: Mapping[str, str], classes: Mapping[str, AcceleratorClass], now_s: float
) -> list[ReplicaEvent]:
    """Return the ends of replicas that were published by an earlier leader and are not there any more.

    Args:
        replicas: Variant of each, by replica id.
        models: As for `adopted`.
        classes: As for `adopted`.
        now_s: When that was found, which is the latest that they can have ended at.
    """
    ends = []
    for replica, variant in replicas.items():
        found = ObservedApplication(name=variant, status="", message="", config=None)
        app = adopted(found, models, classes)
        if app is not None:
            end = ReplicaEvent(
                replica=replica,
                kind=ReplicaEventKind.END,
                at_s=now_s,
                model=app.model,
                variant=variant,
                accelerator_class=app.accelerator_class,
                accelerators=app.accelerators,
                purchase=app.purchase,
                usd_per_hour=str(app.usd_per_hour),
                cause="EndedUnseen",
            )
            ends.append(end)
    return ends


def _longest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the longest candidate that a name begins with, two hyphens after it."""
    fitting = [candidate for candidate in candidates if name.startswith(f"{candidate}--")]
    return max(fitting, key=len, default=None)


def _count(actor: Mapping[str, Any]) -> int:
    custom = [int(number) for number in (actor.get("resources") or {}).values()]
    return int(actor.get("num_gpus") or 0) or max(custom, default=0) or max(1, int(actor.get("num_cpus") or 1))


def _price(accelerator: AcceleratorClass | None, purchase: Purchase) -> Decimal:
    try:
        return Decimal(0) if accelerator is None else accelerator.usd_per_hour(purchase)
    except ValueError:
        return Decimal(0)
