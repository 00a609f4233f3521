"""`python -m penstock_operator`: one operator process, told what to do by `PENSTOCK_OPERATOR_*`.

Exit codes: 0 after SIGTERM or SIGINT, 1 when leadership was lost (start it again), 2 when it cannot start at all.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from pydantic import ValidationError
from pydantic_settings import SettingsError

from penstock_kube.errors import ConfigError, NotLeaderError
from penstock_operator.app import lease_of, run_operator
from penstock_operator.logs import log_as_json
from penstock_operator.runtime.manager import run_until_signalled
from penstock_operator.settings import Settings

_PREFIX = "PENSTOCK_OPERATOR_"
_log = logging.getLogger("penstock_operator")


def main() -> int:
    """Run until SIGTERM or SIGINT. Return the exit code."""
    log_as_json()
    try:
        settings = Settings()  # the environment fills it
        lease_of(settings)
    except ValidationError as error:
        for problem in error.errors():
            name = _PREFIX + "__".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"Error: {name}: {problem['msg']}\n")
        return 2
    except SettingsError as error:
        sys.stderr.write(f"Error: {error}: {error.__cause__}\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"Error: {_PREFIX}LEASE: {error}\n")
        return 2
    try:
        _run(settings)
    except NotLeaderError as error:
        _log.error("%s; this process ends, and a fresh one takes part in the election", error)
        return 1
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"Error: the operator cannot start: {error}\n")
        return 2
    return 0


def _run(settings: Settings) -> None:
    async def run() -> None:
        await run_until_signalled(lambda: run_operator(settings))

    try:
        import uvloop  # noqa: PLC0415 - faster where it is installed, and not needed
    except ModuleNotFoundError:
        asyncio.run(run())
    else:
        uvloop.run(run())


if __name__ == "__main__":
    sys.exit(main())
