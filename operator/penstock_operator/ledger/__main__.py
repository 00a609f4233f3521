"""`python -m penstock_operator.ledger`: the one ledger of a platform, told what to do by `PENSTOCK_LEDGER_*`."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys

from pydantic import ValidationError

from penstock.cost.schema import LedgerVersionError
from penstock_operator.ledger.process import run_ledger
from penstock_operator.ledger.settings import Settings
from penstock_operator.runtime.manager import run_until_signalled


def main() -> int:
    """Run until SIGTERM or SIGINT. Return the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings()  # the environment fills it
    except ValidationError as error:
        for problem in error.errors():
            name = "__".join(["PENSTOCK_LEDGER", *(str(part) for part in problem["loc"])]).upper()
            sys.stderr.write(f"Error: {name.replace('__', '_', 1)}: {problem['msg']}\n")
        return 2
    try:
        asyncio.run(run_until_signalled(lambda: run_ledger(settings)))
    except (OSError, sqlite3.Error, LedgerVersionError) as error:
        sys.stderr.write(
            f"Error: the ledger cannot start: {error} (PENSTOCK_LEDGER_DATABASE {settings.database}, "
            f"PENSTOCK_LEDGER_HTTP_PORT {settings.http_port})\n"
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
