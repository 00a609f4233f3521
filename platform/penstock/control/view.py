"""The platform's status for people: one row a model, then what needs attention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from penstock.control.status import ConditionType, ModelStatus, PlatformStatus, ReplicaStatus

_COLUMNS = ("MODEL", "READY", "KV%", "QUEUE", "P95-TTFT", "TOK/S", "$/MTOK", "IDLE%", "WHY", "AGE")


def render(status: PlatformStatus) -> RenderableType:
    """Return the status as a table with remarks below."""
    table = _models_table(status.models, status.at_s)
    remarks = [Text(text, style="yellow") for text in attention(status)]
    where = Text(
        f"OpenAI API  {status.data_url}/v1\nadmin API   {status.admin_url}\nRay         {status.dashboard_url}",
        style="dim",
    )
    return Group(table, *remarks, where)


def render_details(status: PlatformStatus) -> RenderableType:
    """Return the status with every replica and condition."""
    return Group(render(status), Text(), *_details(status.models, status.at_s))


def render_models(models: Sequence[ModelStatus], at_s: float, *, live: bool, namespaces: bool) -> RenderableType:
    """Return Models of a cluster as `render_details` returns those of this machine.

    Args:
        models: The Models.
        at_s: Unix seconds of the look.
        live: Whether rates and replicas are known; else only what the objects' statuses hold is shown.
        namespaces: Show each one's namespace.
    """
    table = _models_table(models, at_s, live=live, namespaces=namespaces)
    remarks = [Text(line, style="yellow") for model in models for line in attention_of(model)]
    return Group(table, *remarks, Text(), *_details(models, at_s))


def _models_table(models: Iterable[ModelStatus], at_s: float, *, live: bool = True, namespaces: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NAMESPACE", *_COLUMNS) if namespaces else _COLUMNS:
        table.add_column(name, justify="left" if name in {"NAMESPACE", "MODEL", "WHY"} else "right", no_wrap=True)
    for model in models:
        cells = list(row(model, at_s))
        if not live:
            cells[_COLUMNS.index("TOK/S")] = "-"
        table.add_row(*([model.namespace] if namespaces else []), *cells)
    return table


def _details(models: Iterable[ModelStatus], at_s: float) -> tuple[Table, Text, Table]:
    """Return replicas, a blank line, and conditions."""
    replicas = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("REPLICA", "VARIANT", "STATE", "FOR", "PID", "ADDRESS", "KV%", "RUNNING", "WAITING"):
        replicas.add_column(name, no_wrap=True)
    conditions = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("MODEL", "CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"):
        conditions.add_column(name, no_wrap=name != "MESSAGE")
    words = {True: "True", False: "False", None: "Unknown"}
    for model in models:
        for replica in model.replicas:
            replicas.add_row(*_replica_row(replica, at_s))
        for said in model.conditions:
            held = age(at_s - said.since_s)
            conditions.add_row(model.name, said.type.value, words[said.status], said.reason, held, Text(said.message))
    return replicas, Text(), conditions


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
    return lines + [line for model in status.models for line in attention_of(model)]


def attention_of(model: ModelStatus) -> list[str]:
    """Return what a person should read of one model, when it is not as it should be."""
    return [
        f"{model.name}: {said.reason}: {said.message}"
        for said in model.conditions
        if said.type is ConditionType.DEGRADED and said.status
    ]


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
