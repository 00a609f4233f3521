"""What can go wrong with Ray Serve.

ServeError
├── ServeUnreachableError     no answer: Ray is not there, not yet, or too busy
├── ServeUnauthorizedError    the token is missing or wrong
├── ServeRefusedError         Serve understood and said no (400, 412)
├── ServeNotFoundError        no such application or deployment, perhaps not yet
├── ServeUnavailableError     Ray answered, but Serve's controller did not (5xx)
└── ApplicationClashError     two models compile to one application name
"""

from __future__ import annotations

_LONGEST_TEXT = 2000


class ServeError(Exception):
    """Anything that keeps an operator from reading or changing what Serve runs."""


class ServeUnreachableError(ServeError):
    """Nobody answered at Ray's dashboard address in time."""


class ServeAnswerError(ServeError):
    """Ray answered with an error status."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text[:_LONGEST_TEXT]
        super().__init__(f"HTTP {status}: {self.text}")


class ServeUnauthorizedError(ServeAnswerError):
    """401 or 403: the token is not this cluster's."""


class ServeRefusedError(ServeAnswerError):
    """400 or 412: the request can never succeed as it is."""


class ServeNotFoundError(ServeAnswerError):
    """404: no such application or deployment; during a build, not yet."""


class ServeUnavailableError(ServeAnswerError):
    """5xx: worth trying again."""


class ApplicationClashError(ServeError):
    """Two models or variants would share one application name, and one would replace the other."""
