"""Models, classes, applications and replicas for tests of pools."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.load import parse_resource
from penstock.api.model import Model
from penstock.control.replicas import Life
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.applications import Application

NAMESPACE = "team"


def model(name: str = "llama", **spec: Any) -> Model:
    body = {"source": "hf://organisation/name", "accelerator": "nvidia-h100:2", **spec}
    body = {field: value for field, value in body.items() if value is not None}
    found = parse_resource(
        {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "Model",
            "metadata": {"namespace": NAMESPACE, "name": name},
            "spec": body,
        }
    )
    assert isinstance(found, Model)
    return found


def accelerator(name: str = "nvidia-h100", **spec: Any) -> AcceleratorClass:
    price = {"onDemandPerHour": "3.00", "spotPerHour": "1.00"}
    body = {"vendor": "nvidia", "memory": "80Gi", "price": price, **spec}
    found = parse_resource(
        {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "AcceleratorClass",
            "metadata": {"name": name},
            "spec": body,
        }
    )
    assert isinstance(found, AcceleratorClass)
    return found


def application(name: str = "llama--h100--aaaa", model_name: str = "llama") -> Application:
    return Application(
        name=name,
        model=model_name,
        accelerator_class="h100",
        accelerators=1,
        purchase="OnDemand",
        usd_per_hour=Decimal(3),
        engine="vllm",
        argv=("--model", "x"),
        num_cpus=1.0,
        num_gpus=1.0,
        resources={},
        env={},
        drain_timeout_s=600.0,
    )


def life(
    replica: str,
    variant: str = "llama--h100--aaaa",
    *,
    phase: ReplicaPhase = ReplicaPhase.READY,
    address: str | None = "10.0.0.1",
    port: int | None = 30000,
    model_name: str = "llama",
) -> Life:
    return Life(
        id=replica,
        model=model_name,
        variant=variant,
        phase=phase,
        since_s=1.0,
        started_s=0.0,
        address=address,
        port=port,
        application=application(variant, model_name),
    )
