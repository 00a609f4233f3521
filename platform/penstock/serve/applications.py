"""Model variants as Ray Serve applications: one application, one deployment, one engine to a replica. Pure.

`args` are part of what Serve calls the code version: a change there replaces every replica. So they hold what the
engine is and a revision, and never how many of it there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from penstock.api.accelerator_class import AcceleratorClass, Purchase
from penstock.api.model import Model, Placement
from penstock.engines.base import Engine, LaunchSpec

DEPLOYMENT = "Engine"
"""The name of the one deployment in each application."""

IMPORT_PATH = "penstock_engine.deployment:build"

_UNLIMITED_REQUESTS = 100_000
"""`max_ongoing_requests` also holds back health checks and metrics; the gateway does the limiting."""

_GPU_RESOURCES = frozenset({"nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"})
"""Kubernetes resources that Ray counts as GPUs."""

_RAY_RESOURCES: Mapping[str, str] = {"google.com/tpu": "TPU", "habana.ai/gaudi": "HPU"}
"""Kubernetes resources that Ray has a name of its own for."""


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for Serve as a whole on one cluster. Serve cannot change these while it runs."""

    http_host: str
    """Replicas listen on it: loopback on one machine, every address in pods, which gateways must reach."""
    http_port: int = 8000
    """The port of Serve's own proxy, which nobody is sent to."""


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """One variant of one model, ready for Serve but for the number of replicas."""

    name: str
    model: str
    accelerator_class: str
    accelerators: int
    """Per replica."""
    purchase: str
    usd_per_hour: Decimal
    """Of one replica, all its accelerators together."""
    engine: str
    """The adapter's name."""
    argv: tuple[str, ...]
    num_cpus: float
    num_gpus: float
    resources: Mapping[str, float]
    """Ray's custom resources per replica."""
    env: Mapping[str, str]
    drain_timeout_s: float
    """How long a stream may go on in a replica that is being stopped."""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Ray labels of the nodes that its replicas must run on; any node when empty, as on one machine."""
    attempt: int = 0
    """Counts the times that it was given to Serve anew because Serve had given up on it."""

    @property
    def revision(self) -> str:
        """Eight hex digits over all that calls for new replicas when it changes, and the attempt after the first."""
        essence: tuple[Any, ...] = (
            self.argv,
            self.num_cpus,
            self.num_gpus,
            sorted(self.resources.items()),
            sorted(self.env.items()),
        )
        if self.labels:  # elsewhere a change of place calls for new replicas as well
            essence = (*essence, sorted(self.labels.items()))
        digest = hashlib.sha256(msgspec.json.encode(essence)).hexdigest()[:8]
        return f"{digest}-{self.attempt}" if self.attempt else digest


class RayResources(NamedTuple):
    """Resources as Ray counts them."""

    cpus: float
    gpus: float
    custom: dict[str, float]


def application_name(model: Model, placement: Placement) -> str:
    """Return the name of a variant's application.

    It is `MODEL--CLASS`, with `--spot` when it is bought as such, and with `--COUNT` when the model has placements that
    differ in their count only. Two models may still come to one name (`a--b` on `c`, `a` on `b--c`).
    """
    parts = [model.name, placement.accelerator_class]
    if placement.purchase is not Purchase.ON_DEMAND:
        parts.append(placement.purchase.lower())
    kind = (placement.accelerator_class, placement.purchase)
    if sum((other.accelerator_class, other.purchase) == kind for other in model.placements) > 1:
        parts.append(str(placement.count))
    return "--".join(parts)


def compile_application(
    model: Model,
    placement: Placement,
    accelerator: AcceleratorClass,
    engine: Engine,
    weights: str,
    *,
    scratch: str | None = None,
) -> Application:
    """Return the application of one variant.

    Args:
        model: The model.
        placement: One of its placements.
        accelerator: The class that the placement names.
        engine: The adapter that the model's engine names.
        weights: A folder or URI that the replica can load, with presets and generated weights resolved.
        scratch: Folder on the replica's machine for what the engine writes and nobody keeps; None for its defaults.

    Raises:
        ValueError: the class has no price for the way it is to be bought, or the engine cannot run this.
    """
    spec = launch_spec(model, placement, accelerator, weights)
    resources = ray_resources(accelerator, placement.count)
    return Application(
        name=application_name(model, placement),
        model=model.name,
        accelerator_class=placement.accelerator_class,
        accelerators=placement.count,
        purchase=placement.purchase.value,
        usd_per_hour=accelerator.usd_per_hour(placement.purchase) * placement.count,
        engine=engine.name,
        argv=tuple(engine.argv(spec)),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        resources=resources.custom,
        env={
            **engine.environment(spec, scratch=scratch),
            **{variable.name: variable.value for variable in model.spec.env},
        },
        drain_timeout_s=float(model.spec.drain_timeout_seconds),
    )


def launch_spec(model: Model, placement: Placement, accelerator: AcceleratorClass, weights: str) -> LaunchSpec:
    """Return what the engine is to run."""
    spec = model.spec
    degrees = model.degrees(placement, accelerator)
    return LaunchSpec(
        served_name=model.name,
        weights=weights,
        task=spec.task.value,
        context_length=spec.context_length,
        quantization=None if spec.quantization is None else spec.quantization.value,
        kv_cache_dtype=None if spec.kv_cache.dtype == "auto" else spec.kv_cache.dtype,
        tensor_parallel=degrees.tensor,
        pipeline_parallel=degrees.pipeline,
        data_parallel=degrees.data,
        speculative=_speculative(model),
        adapters=tuple((adapter.name, adapter.source) for adapter in spec.adapters),
        on_cpu=accelerator.is_cpu,
        extra_args=spec.engine.args,
    )


def application_config(application: Application, replicas: int | None) -> dict[str, Any]:
    """Return the application as Serve's REST API takes it.

    Args:
        application: What to run.
        replicas: The live count, at least 1; None leaves it out, to compare configurations.

    Raises:
        ValueError: `replicas` is below 1, which Serve refuses.
    """
    if replicas is not None and replicas < 1:
        raise ValueError(f"replicas is {replicas}: Serve takes 1 or more here; scale to 0 by a scale call")
    actor: dict[str, Any] = {
        "num_cpus": application.num_cpus,
        "num_gpus": application.num_gpus,
        "resources": dict(application.resources),
        "runtime_env": {
            "env_vars": dict(application.env),
        },
    }
    if application.labels:
        actor["label_selector"] = dict(application.labels)
    deployment: dict[str, Any] = {
        "name": DEPLOYMENT,
        "max_ongoing_requests": _UNLIMITED_REQUESTS,
        "max_surge_percent": 100,
        "graceful_shutdown_timeout_s": application.drain_timeout_s,
        "graceful_shutdown_wait_loop_s": 1.0,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 5.0,
        "ray_actor_options": actor,
    }
    if replicas is not None:
        deployment["num_replicas"] = replicas
    return {
        "name": application.name,
        "import_path": IMPORT_PATH,
        "route_prefix": f"/{application.name}",
        "external_scaler_enabled": True,
        "args": {"argv": list(application.argv), "revision": application.revision},
        "deployments": [deployment],
    }


def spread(replicas: int, placements: tuple[Placement, ...]) -> tuple[int, ...]:
    """Divide a model's replicas among its placements: each its own minimum, then the first that has room.

    Returns:
        A count per placement. The sum is `replicas`, or less when every placement is at its maximum, or more when
        their minima ask for more.
    """
    counts = [placement.min_replicas or 0 for placement in placements]
    for index, placement in enumerate(placements):
        missing = replicas - sum(counts)
        if missing <= 0:
            break
        room = missing if placement.max_replicas is None else max(0, placement.max_replicas - counts[index])
        counts[index] += min(missing, room)
    return tuple(counts)


def _speculative(model: Model) -> tuple[tuple[str, str], ...]:
    guess = model.spec.speculative
    if guess is None:
        return ()
    pairs = [("method", guess.method.value), ("num_speculative_tokens", str(guess.tokens))]
    if guess.model is not None:
        pairs.append(("model", guess.model))
    return tuple(pairs)


def ray_resources(accelerator: AcceleratorClass, count: int) -> RayResources:
    """Return what a replica on so many accelerators of a class takes of a Ray node."""
    name = accelerator.spec.resource_name
    if accelerator.is_cpu:
        return RayResources(cpus=float(count), gpus=0.0, custom={})
    if name in _GPU_RESOURCES:
        return RayResources(cpus=1.0, gpus=float(count), custom={})
    return RayResources(cpus=1.0, gpus=0.0, custom={_RAY_RESOURCES.get(name, name): float(count)})
