"""`penstock plan`: where a model's memory goes, how much it serves, and what to change when it does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.where import CLUSTER_ONLY, ClusterFlags, cluster_options, has_kubeconfig, open_cluster
from penstock.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.api import AcceleratorClass, Manifest, Model
    from penstock.catalog import Fit, Geometry

GIB = 1024**3
DOES_NOT_FIT = 2


@click.command("plan")
@click.argument("subjects", nargs=-1, required=True, metavar="FILE|MODEL...")
@cluster_options
@click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form of the plan."
)
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Prompt length.")
@click.option("--output-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Completion length.")
@click.pass_context
def command(
    ctx: click.Context,
    subjects: tuple[str, ...],
    *,
    cluster: ClusterFlags,
    output: str,
    prompt_tokens: int,
    output_tokens: int,
) -> None:
    """Print the memory budget of every Model in FILE... (YAML files and folders), or of each MODEL in a cluster.

    Shows what weights and reserves take, how many tokens the cache holds, and the largest context and concurrency.
    When a model does not fit, says what to change, and exits with 2.

    With an option that names a cluster, and for names that are no files, the Models and AcceleratorClasses are the
    cluster's.
    """
    from penstock.catalog import accelerator_classes

    if _means_cluster(ctx, subjects, cluster):
        manifest = open_cluster(cluster).manifest(subjects)
        classes = manifest.accelerator_classes
    else:
        manifest = _load(tuple(map(Path, subjects)))
        named = {one.name: one for one in (*accelerator_classes(), *manifest.accelerator_classes)}
        classes = tuple(named.values())
    if not manifest.models:
        raise UserError(f"no Model in {', '.join(subjects)}: name a file that holds one")
    rows = [row for model in manifest.models for row in _rows(model, classes, prompt_tokens, output_tokens)]
    if output == "json":
        import json

        click.echo(json.dumps([{key: value for key, value in row.items() if key != "fit"} for row in rows], indent=2))
    else:
        from penstock.console import open_console

        console = open_console()
        for row in rows:
            _print(console, row)
    if any(row["problem"] for row in rows):
        ctx.exit(DOES_NOT_FIT)


def _means_cluster(ctx: click.Context, subjects: tuple[str, ...], cluster: ClusterFlags) -> bool:
    """Say whether names of Models are meant: those are no paths."""
    if cluster.given or ctx.meta.get(CLUSTER_ONLY):
        return True
    names = not any(Path(one).exists() or "/" in one or one.endswith((".yaml", ".yml")) for one in subjects)
    return names and has_kubeconfig()


def _load(paths: tuple[Path, ...]) -> Manifest:
    from penstock.api import ManifestError, load_files

    try:
        return load_files(paths)
    except ManifestError as error:
        count = len(error.problems)
        raise UserError(f"{count} problem{'s' if count > 1 else ''} in the manifest\n{error}") from error


def _geometry(model: Model) -> Geometry:
    """Return a Model's shape.

    Raises:
        LookupError: it is not known here; the message says what would make it known.
        ValueError: the folder's `config.json` does not say it.
    """
    import json

    from penstock.api import parse_source
    from penstock.catalog import find, from_config, models, weights_uri

    entry = find(model)
    if entry is not None:
        return entry.geometry
    uri = weights_uri(model)
    source = parse_source(uri)
    if source.scheme == "tiny":
        return models()["tiny-random"].geometry
    if source.scheme != "file":
        raise LookupError(
            f"the catalog does not know {uri}: download it and plan with source file:///FOLDER, or use a preset"
        )
    file = Path(source.location) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LookupError(
            f"{file} cannot be read ({error.strerror}): check that {uri} is a folder of weights"
        ) from error
    except ValueError as error:
        raise LookupError(f"{file} is not JSON ({error}): check that {uri} is a folder of weights") from error
    return from_config(config)


def _rows(
    model: Model, classes: Sequence[AcceleratorClass], prompt_tokens: int, output_tokens: int
) -> list[dict[str, Any]]:
    """Return the plan of a Model on each of its placements, as JSON data with the `Fit` beside it."""
    from penstock.catalog import assess

    rows: list[dict[str, Any]] = []
    for placement in model.placements:
        row: dict[str, Any] = {"model": model.name, "namespace": model.namespace, "class": placement.accelerator_class}
        row |= {"count": placement.count, "problem": None, "remedies": [], "fit": None}
        try:
            fit = assess(model, _geometry(model), placement, classes)
        except (LookupError, ValueError) as error:
            row["problem"] = str(error).strip("'\"")
        else:
            row |= _numbers(fit, prompt_tokens, output_tokens) | {"fit": fit}
        rows.append(row)
    return rows


def _numbers(fit: Fit, prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    budget = fit.budget
    worst = budget.concurrency(prompt_tokens, output_tokens, finished=True)
    return {
        "problem": fit.problem,
        "precision": fit.precision.value,
        "parallelism": budget.degrees._asdict(),
        "bytesPerAccelerator": {
            "usable": budget.total_bytes,
            "weights": budget.weights_bytes,
            "activations": budget.activation_bytes,
            "nonTorch": budget.non_torch_bytes,
            "cache": budget.kv_bytes,
        },
        "cache": {"bytesPerToken": budget.kv_bytes_per_token, "tokens": budget.kv_tokens, "blocks": budget.blocks},
        "context": {"wanted": budget.context, "largest": budget.largest_context},
        "concurrency": {
            "promptTokens": prompt_tokens,
            "outputTokens": output_tokens,
            "mean": budget.concurrency(prompt_tokens, output_tokens),
            "worst": worst,
            "fullContext": budget.concurrency(budget.context, 0) if fit.fits else 0,
        },
        "remedies": [{"field": r.field, "value": r.value, "reason": r.reason} for r in fit.remedies],
    }


def _print(console: Console, row: dict[str, Any]) -> None:
    """Print one placement's budget and its verdict."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{row['model']} on {row['class']}:{row['count']}"
    if row["fit"] is not None:
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column("what")
        table.add_column("value", justify="right")
        for what, value in _lines(row["fit"], row["concurrency"]):
            table.add_row(what, value)
        console.print(table)
    if row["problem"] is None:
        console.print("[green]fits[/green]\n")
        return
    verdict = "cannot be planned" if row["fit"] is None else "does not fit"
    console.print(f"[red]{verdict}[/red]  {escape(title)}: {escape(row['problem'])}", soft_wrap=True)
    for remedy in row["remedies"]:
        text = f"  set {remedy['field']} to {remedy['value']}: {remedy['reason']}"
        console.print(escape(text), soft_wrap=True)
    if row["fit"] is not None and not row["remedies"]:
        console.print(
            "  no single change was enough: choose a smaller model, or more of a larger class", soft_wrap=True
        )
    console.print()


def _lines(fit: Fit, concurrency: dict[str, int]) -> list[tuple[str, str]]:
    budget = fit.budget
    ways = " x ".join(f"{name} {degree}" for name, degree in budget.degrees._asdict().items())
    shape = f"{concurrency['promptTokens']} in, {concurrency['outputTokens']} out"
    return [
        ("parallelism", ways),
        ("usable memory, each accelerator", _gib(budget.total_bytes)),
        (f"weights ({fit.precision})", _gib(budget.weights_bytes)),
        ("activations (reserve)", _gib(budget.activation_bytes)),
        ("outside the allocator (reserve)", _gib(budget.non_torch_bytes)),
        ("left for the cache", _gib(budget.kv_bytes)),
        ("cache per token", f"{budget.kv_bytes_per_token:,} B"),
        ("cache of the replica", f"{budget.kv_tokens:,} tokens in {budget.blocks:,} blocks"),
        ("context", f"{budget.context:,} wanted, {budget.largest_context:,} at most"),
        (f"requests at a time, {shape}", f"{concurrency['mean']:,} mean, {concurrency['worst']:,} worst"),
        ("requests at a time, full context", f"{concurrency['fullContext']:,}"),
    ]


def _gib(size: int) -> str:
    return f"{size / GIB:,.2f} GiB"
