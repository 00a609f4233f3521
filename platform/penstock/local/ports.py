"""TCP ports of a local platform: those the user gave, checked, and free ones for the rest."""

from __future__ import annotations

import errno
import socket

from penstock.errors import UserError

LOOPBACK = "127.0.0.1"


def claim_port(option: str, wanted: int | None, host: str = LOOPBACK) -> int:
    """Return the port to listen on: the wanted one if it is free, or any free one when none is wanted.

    The port is free at the moment of the answer; its user binds it a little later.

    Raises:
        UserError: it is taken or may not be bound; the message names the option.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections still linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted or 0))
        except OSError as error:
            raise UserError(_port_message(option, wanted, host, error)) from error
        port: int = probe.getsockname()[1]
        return port


def _port_message(option: str, wanted: int | None, host: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{option} {wanted}: port {wanted} on {host} is in use; end who uses it or give another with {option}"
    if error.errno == errno.EACCES:
        return f"{option} {wanted}: port {wanted} needs privileges; give one above 1023 with {option}"
    return f"{option} {wanted}: cannot listen on {host}: {error.strerror}"
