"""`penstock up`: serve models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from penstock.api.manifest import Manifest
    from penstock.local.lifecycle import Options

_PORT = click.IntRange(1, 65535)


@click.command("up")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--detach", "-d", is_flag=True, help="Return as soon as every model serves, and leave it running.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory; default $PENSTOCK_STATE or the user's own.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the OpenAI API.")
@click.option("--data-port", type=_PORT, default=8000, show_default=True, help="Port of the OpenAI API.")
@click.option("--admin-port", type=_PORT, default=8001, show_default=True, help="Loopback port of the admin API.")
@click.option("--metrics-port", type=_PORT, help="Loopback port of the operator's metrics; any free one by default.")
@click.option("--ray-port", type=_PORT, help="Port of Ray's GCS; any free one by default.")
@click.option("--dashboard-port", type=_PORT, help="Loopback port of Ray's dashboard; any free one by default.")
@click.option("--cpus", type=click.IntRange(1), help="Processors that Ray may hand out; twice those there are.")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="For streams to finish at the end.",
)
@click.option(
    "--timeout", type=click.FloatRange(1), default=900.0, show_default=True, help="With --detach: seconds to wait."
)
@click.pass_context
def command(
    ctx: click.Context, /, paths: tuple[Path, ...], detach: bool, state: Path | None, **settings: object
) -> None:
    """Serve the models in PATH... (YAML files and folders of them) on this machine.

    Starts Ray and the gateway, keeps replicas as the files and the load ask for, and follows edits to the files.
    Ctrl-C (or `penstock down`) takes everything down; ledger, decisions and logs stay in the state directory.
    """
    from penstock.local.gateway import require_gateway
    from penstock.local.ray_head import require_engine
    from penstock.local.state import StateDirectory
    from penstock.local.terminal import serve_detached, serve_here

    manifest = _load(paths)
    require_engine()
    require_gateway()
    directory = StateDirectory.resolve(state)
    directory.prepare()
    directory.check_free()
    options = _options(paths, settings)
    if detach:
        ctx.exit(serve_detached(directory, options, float(str(settings["timeout"]))))
    serve_here(directory, options, manifest)


def _load(paths: tuple[Path, ...]) -> Manifest:
    from penstock.api.errors import ManifestError
    from penstock.api.load import load_files
    from penstock.errors import UserError

    try:
        manifest = load_files(paths)
    except ManifestError as error:
        raise UserError(str(error)) from error
    if not manifest.models:
        raise UserError(f"{', '.join(map(str, paths))}: there is no Model here; add a document of kind Model")
    return manifest


def _options(paths: tuple[Path, ...], settings: dict[str, object]) -> Options:
    from penstock.local.gateway import GatewayAddress
    from penstock.local.lifecycle import Options
    from penstock.local.ports import LOOPBACK, claim_port
    from penstock.local.ray_head import RayPorts

    def port(option: str, host: str = LOOPBACK) -> int:
        wanted = settings[option.removeprefix("--").replace("-", "_")]
        return claim_port(option, wanted if isinstance(wanted, int) else None, host)

    host = str(settings["host"])
    cpus = settings["cpus"]
    return Options(
        paths=tuple(str(path.absolute()) for path in paths),
        gateway=GatewayAddress(host, port("--data-port", host), LOOPBACK, port("--admin-port")),
        metrics_port=port("--metrics-port"),
        ray=RayPorts(
            gcs=port("--ray-port"),
            dashboard=port("--dashboard-port"),
            client_server=claim_port("--ray-client-port", None),
            agent=claim_port("--ray-agent-port", None),
            proxy=claim_port("--ray-proxy-port", None),
        ),
        cpus=cpus if isinstance(cpus, int) else None,
        drain_s=float(str(settings["drain_seconds"])),
    )
