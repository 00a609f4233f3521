"""The admin token: a setting, or a file that is replaced when the token changes."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path

from pydantic import SecretStr

logger = logging.getLogger(__name__)


class AdminToken:
    """Judges bearer tokens of the admin API.

    A file is read for each judgement: they are few, and a mounted Secret changes without a sign. While it cannot be
    read, the token that it last held stays good.

    Args:
        token: The token itself.
        file: A file that holds it; with neither, everybody is admitted.

    Raises:
        OSError: the file cannot be read, or is empty.
    """

    def __init__(self, token: SecretStr | None, file: Path | None) -> None:
        self._token = None if token is None else token.get_secret_value().encode()
        self._file = file
        if file is not None:
            self._token = _read(file)

    def admits(self, given: str) -> bool:
        """Return whether a token is the right one, or none is asked for."""
        if self._file is not None:
            try:
                self._token = _read(self._file)
            except OSError as error:
                logger.warning("%s; the token that was last there stays good", error)
        return self._token is None or hmac.compare_digest(given.encode(), self._token)

    def proves(self, authorization: bytes | None) -> bool:
        """Return whether an `authorization` header holds the token; never, where there is none to hold."""
        if self._token is None or authorization is None:
            return False
        scheme, _, given = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and self.admits(given.strip().decode("utf-8", "replace"))


def _read(file: Path) -> bytes:
    token = file.read_bytes().strip()
    if not token:
        raise OSError(f"PENSTOCK_GATEWAY_ADMIN_TOKEN_FILE: {file} is empty; put the token into it")
    return token
