"""The command: `python -m penstock_operator.release [--dry-run]`."""

from __future__ import annotations

import asyncio
import sys

import click
from pydantic import ValidationError
from pydantic_settings import SettingsError

from penstock_kube.client import KubeClient
from penstock_kube.clock import SystemClock
from penstock_kube.config import Access
from penstock_kube.errors import KubeError
from penstock_operator.release.run import release
from penstock_operator.settings import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done.")
def command(dry_run: bool) -> None:
    """Let Models go before the operator is uninstalled, and say what keeps running.

    Settings are the operator's own, from PENSTOCK_OPERATOR_* variables.
    """
    try:
        done = asyncio.run(_main(Settings(), dry_run=dry_run))
    except (KubeError, ValidationError, SettingsError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if done else 1)


async def _main(settings: Settings, *, dry_run: bool) -> bool:
    access = Access.find(settings.access_kubeconfig)
    async with KubeClient(access, field_manager="penstock-operator") as client:
        return await release(client, settings, SystemClock(), click.echo, dry_run=dry_run)


if __name__ == "__main__":
    command()
