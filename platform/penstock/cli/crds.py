"""`penstock crds`: the CustomResourceDefinitions that a cluster needs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("crds")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write one file a kind into; standard output when left out.",
)
def command(output: Path | None) -> None:
    """Print the CustomResourceDefinitions: `penstock crds | kubectl apply --server-side -f -`."""
    from penstock.api.crd import CRD_KINDS, file_name, render
    from penstock.errors import UserError

    if output is None:
        click.echo("---\n".join(render(kind) for kind in CRD_KINDS), nl=False)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for kind in CRD_KINDS:
            path = output / file_name(kind)
            path.write_text(render(kind), encoding="utf-8")
            click.echo(path)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror}): name a folder that can") from error
