"""The platform's status for people: one row a model, then what needs attention."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from penstock.control.status import ConditionType, ModelStatus, PlatformStatus, ReplicaStatus

_COLUMNS = ("MODEL", "READY", "KV%", "QUEUE", "P95-TTFT", "TOK/S", "$/MTOK", "IDLE%", "WHY", "AGE")


def render(status: PlatformStatus) -> RenderableType:
    """Return the status as a table with remarks below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in {"MODEL", "WHY"} else "right", no_wrap=True)
    for model in status.models:
        table.add_row(*row(model, status.at_s))
    remarks = [Text(text, style="yellow") for text in attention(status)]
    where = Text(
        f"OpenAI API  {status.data_url}/v1\nadmin API   {status.admin_url}\nRay         {status.dashboard_url}",
        style="dim",
    )
    return Group(table, *remarks, where)


def render_details(status: PlatformStatus) -> RenderableType:
    """Return the status with every replica and condition."""
    replicas = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("REPLICA", "VARIANT", "STATE", "FOR", "PID", "ADDRESS", "KV%", "RUNNING", "WAITING"):
        replicas.add_column(name, no_wrap=True)
    conditions = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("MODEL", "CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"):
        conditions.add_column(name, no_wrap=name != "MESSAGE")
    words = {True: "True", False: "False", None: "Unknown"}
    for model in status.models:
        for replica in model.replicas:
            replicas.add_row(*_replica_row(replica, status.at_s))
        for said in model.conditions:
            held = age(status.at_s - said.since_s)
            conditions.add_row(model.name, said.type.value, words[said.status], said.reason, held, Text(said.message))
    return Group(render(status), Text(), replicas, Text(), conditions)


def _replica_row(replica: ReplicaStatus, now_s: float) -> tuple[str, ...]:
    def shown(value: int | None) -> str:
        return "-" if value is None else str(value)

    return (
        replica.id,
        replica.variant,
        replica.state.value,
        age(now_s - replica.since_s),
        shown(replica.pid),
        "-" if replica.port is None else f"{replica.address}:{replica.port}",
        "-" if replica.kv_usage is None else f"{replica.kv_usage:.0%}",
        shown(replica.running),
        shown(replica.waiting),
    )


def row(model: ModelStatus, now_s: float) -> tuple[str, ...]:
    """Return the cells of one model."""
    return (
        model.name,
        f"{model.ready}/{model.target}",
        "-" if model.kv_usage is None else f"{model.kv_usage:.0%}",
        str(model.queue),
        "-" if model.ttft_p95_s is None else _milliseconds(model.ttft_p95_s),
        f"{model.prompt_tokens_per_s + model.completion_tokens_per_s:,.0f}",
        "-" if model.usd_per_million_tokens is None else f"{model.usd_per_million_tokens:,.2f}",
        "-" if model.idle_share is None else f"{model.idle_share:.0%}",
        _why(model),
        age(now_s - model.since_s),
    )


def attention(status: PlatformStatus) -> list[str]:
    """Return what a person should read: trouble with files, and models that are not as they should be."""
    lines = [line for line in status.message.split("; ") if line]
    for model in status.models:
        lines += [
            f"{model.name}: {said.reason}: {said.message}"
            for said in model.conditions
            if said.type is ConditionType.DEGRADED and said.status
        ]
    return lines


def is_ready(model: ModelStatus) -> bool:
    """Say whether a model serves."""
    return any(said.type is ConditionType.READY and said.status for said in model.conditions)


def trouble(model: ModelStatus) -> str | None:
    """Return why a model will not serve unless somebody does something, or None."""
    degraded = [said for said in model.conditions if said.type is ConditionType.DEGRADED and said.status]
    return f"{degraded[0].reason}: {degraded[0].message}" if degraded and not is_ready(model) else None


def progress(status: PlatformStatus) -> str:
    """Return in one line what each model is doing on its way to serving."""
    doing = []
    for model in status.models:
        steps = [said for said in model.conditions if said.type is ConditionType.PROGRESSING and said.status]
        word = "ready" if is_ready(model) else steps[0].reason.lower() if steps else "failed"
        doing.append(f"{model.name}: {word}")
    return ", ".join(doing)


def age(seconds: float) -> str:
    """Return a duration in the way of kubectl: 45s, 12m, 3h, 2d."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)}{name}"
    return f"{int(seconds // 86400)}d"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 10 else f"{seconds:.1f}s"


def _why(model: ModelStatus) -> str:
    if trouble(model) is not None or not is_ready(model):
        ready = [said.reason for said in model.conditions if said.type is ConditionType.READY]
        return ready[0] if ready else ""
    return model.why
