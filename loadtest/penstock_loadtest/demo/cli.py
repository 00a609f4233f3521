"""`penstock demo`."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.errors import UserError


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/demo"),
    show_default=True,
    help="Folder for report.json, report.html, the platform's state and its logs.",
)
def command(out: Path) -> None:
    """Serve a tiny real model here: load it, watch it scale, break it, let it calm down, print the bill.

    Takes some minutes on two cores. The model has random weights: it says noise.
    """
    import msgspec

    from penstock.console import open_console
    from penstock_loadtest.demo.page import write_page
    from penstock_loadtest.demo.scenario import run_scenario
    from penstock_loadtest.demo.show import print_report
    from penstock_loadtest.demo.summary import make_report
    from penstock_loadtest.demo.watch import DemoError

    console = open_console(highlight=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").touch()
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error
    try:
        evidence = run_scenario(out, lambda line: console.print(line, markup=False, soft_wrap=True))
    except DemoError as error:
        raise click.ClickException(str(error)) from error
    report = make_report(evidence)
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    write_page(report, out / "report.html")
    print_report(report, console)
    console.print(f"Written: {out / 'report.json'} and {out / 'report.html'}", soft_wrap=True)
