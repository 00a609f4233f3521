"""`python -m penstock_gateway`: one gateway process, told what to do by `PENSTOCK_GATEWAY_*`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import Final

import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from penstock_gateway.gateway import Gateway
from penstock_gateway.settings import Settings, StartError

logger = logging.getLogger("penstock_gateway")

GC_THRESHOLD: Final = 50_000
"""Objects made and not freed since the last collection of the youngest generation."""


def main() -> int:
    """Run until SIGTERM or SIGINT has drained the process; a second signal ends it at once. Return the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings()  # the environment fills it
    except ValidationError as error:
        for problem in error.errors():
            name = "PENSTOCK_GATEWAY_" + "__".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"Error: {name}: {problem['msg']}\n")
        return 2
    except SettingsError as error:
        sys.stderr.write(f"Error: {error}: {error.__cause__}\n")
        return 2
    try:
        uvloop.run(_serve(settings))
    except (OSError, StartError) as error:
        sys.stderr.write(f"Error: the gateway cannot start: {error}\n")
        return 2
    return 0


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await gateway.start()
    except OSError:
        await gateway.stop()
        raise
    # What is there now stays: the collector need not look at it again. Requests leave no cycles behind, so that it may
    # run rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    await first.wait()
    logger.info("draining: %d connections", len(gateway.connections))
    drained = loop.create_task(gateway.drain())
    stop_now = loop.create_task(second.wait())
    await asyncio.wait({drained, stop_now}, return_when=asyncio.FIRST_COMPLETED)
    drained.cancel()
    stop_now.cancel()
    await gateway.stop()
    logger.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
