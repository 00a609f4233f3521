"""The load process: settings as JSON on standard input, records as JSON lines in the file named as argument.

It is a process of its own because locust replaces the standard library's sockets with gevent's. SIGTERM and SIGINT end
the load: open requests get their time to finish, what is left is recorded as abandoned.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

import gevent
import locust  # noqa: F401 - must be first: it patches sockets
import msgspec
from locust.env import Environment

from penstock_loadtest.records import RequestRecord
from penstock_loadtest.settings import LoadSettings
from penstock_loadtest.shapes import equip


def main() -> None:
    """Run one load to its end."""
    logging.basicConfig(level=logging.WARNING)
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSettings)
    environment = Environment(host=settings.url)
    runner = environment.create_local_runner()
    with Path(sys.argv[1]).open("ab", buffering=0) as records:

        def write(record: RequestRecord) -> None:
            # One write(2) a record: a reader never sees half of one, and a kill loses none.
            records.write(msgspec.json.encode(record) + b"\n")

        load = equip(environment, settings, record=write)
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, load.stopping.set)
        runner.start_shape()
        runner.shape_greenlet.join()
        runner.quit()


if __name__ == "__main__":
    main()
