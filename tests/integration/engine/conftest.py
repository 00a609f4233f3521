"""One Ray head for the whole folder, with two applications deployed at once: starting engines is what takes time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from penstock.engines import LaunchSpec, get_engine
from penstock.serve.applications import Application, application_config
from penstock_engine.tiny_model import Geometry, write_tiny_model
from tests.integration.engine.replicas import Serving
from tests.support.ray_head import RayHead, ray_head


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "chat")
    write_tiny_model(folder / "embed", embed=True)
    _write_adapter(folder / "adapter")
    return folder


@pytest.fixture(scope="session")
def head() -> Iterator[RayHead]:
    with ray_head() as running:
        yield running
    assert running.processes() == []
    assert not running.folder.exists()


@pytest.fixture(scope="session")
def serving(head: RayHead, models: Path) -> Serving:
    """The applications `chat` and `embed`, running."""
    chat = _application(
        head,
        LaunchSpec(
            served_name="chat",
            weights=(models / "chat").as_uri(),
            task="Generate",
            context_length=4096,
            adapters=(("adapter", (models / "adapter").as_uri()),),
            on_cpu=True,
            extra_args=("--enforce-eager", "--num-gpu-blocks-override", "64", "--max-lora-rank", "8"),
        ),
    )
    embed = _application(
        head,
        LaunchSpec(
            served_name="embed",
            weights=str(models / "embed"),
            task="Embed",
            on_cpu=True,
            extra_args=("--enforce-eager",),
        ),
    )
    running = Serving(head, [application_config(application, 1) for application in (chat, embed)])
    running.deploy()
    running.wait_for("chat", running=1)
    running.wait_for("embed", running=1)
    return running


def _application(head: RayHead, spec: LaunchSpec) -> Application:
    engine = get_engine("vllm")
    return Application(
        name=spec.served_name,
        model=spec.served_name,
        accelerator_class="cpu",
        accelerators=1,
        purchase="OnDemand",
        usd_per_hour=Decimal(0),
        engine="vllm",
        argv=tuple(engine.argv(spec)),
        num_cpus=1.0,
        num_gpus=0.0,
        resources={},
        env=engine.environment(spec, scratch=str(head.folder / "scratch")),
        drain_timeout_s=120.0,
    )


def _write_adapter(folder: Path, rank: int = 8) -> None:
    """Write a LoRA adapter that turns the queries of the first layer around: its answers differ from the base's."""
    folder.mkdir()
    shape = Geometry()
    configuration = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "chat",
        "r": rank,
        "lora_alpha": 64,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(configuration))
    random = np.random.default_rng(1)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{layer}.lora_A.weight": random.standard_normal((rank, shape.hidden)).astype(np.float32),
        f"{layer}.lora_B.weight": random.standard_normal((shape.heads * shape.head_size, rank)).astype(np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
