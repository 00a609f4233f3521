"""Reading a few metrics out of a Prometheus text page, fast: a gateway does it for every replica once a second.

An engine's page is a hundred kilobytes, nearly all of it histogram buckets that nobody here asks for. So lines are not
parsed one after the other: a wanted name is searched for in the bytes, from where the last one was found, because
engines list their metrics in the same order for ever.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4: all lines of a metric stand
together).
"""

from __future__ import annotations

import re

_LABEL = re.compile(rb'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')

_LARGEST = 2.0**63
"""Of a believable value; NaN and infinity lie beyond, and so does what would become infinite in a sum."""


class MetricsPage:
    """One answer of a metrics endpoint. Cheapest when metrics are asked for in the order in which they stand."""

    def __init__(self, page: bytes) -> None:
        self._page = page if page.startswith(b"\n") else b"\n" + page
        self._at = 0

    def samples(self, name: bytes) -> list[tuple[bytes, float]]:
        """Return the samples of a metric, in the order of the page; none when it is absent.

        Args:
            name: The sample's name, `_total` included for a counter.

        Returns:
            For each sample the label set between its braces, unparsed, and the value.

        Raises:
            ValueError: a value is no number, or none that can be meant.
        """
        at = self._find(name)
        found: list[tuple[bytes, float]] = []
        start = b"\n" + name
        while at >= 0 and self._page.startswith(start, at):
            end = self._page.find(b"\n", at + 1)
            rest = self._page[at + len(start) : end if end >= 0 else None]
            if rest[:1] == b"{":
                labels, _, value = rest[1:].rpartition(b"}")
                found.append((labels, _number(value, name)))
            elif rest[:1] == b" ":
                found.append((b"", _number(rest, name)))
            else:
                break
            self._at = at = end
        return found

    def required(self, *names: bytes) -> list[tuple[bytes, float]]:
        """Return the samples of the first of these names that is there.

        Raises:
            ValueError: none is there; the message gives the first name.
        """
        for name in names:
            if found := self.samples(name):
                return found
        raise _absent(names[0])

    def total(self, *names: bytes, default: float | None = None) -> float:
        """Return the sum over all label sets of the first of these names that is there.

        Args:
            names: The name of today first, then those of older versions.
            default: For a page without any.

        Raises:
            ValueError: none is there and there is no default, or a value is no number, or none that can be meant.
        """
        for name in names:
            if found := self.samples(name):
                return sum(value for _, value in found)
        if default is None:
            raise _absent(names[0])
        return default

    def _find(self, name: bytes) -> int:
        """Return where the line end before the first sample of a name is, or -1."""
        for opening in (b"{", b" "):
            needle = b"\n" + name + opening
            at = self._page.find(needle, max(self._at, 0))
            if at < 0:
                at = self._page.find(needle, 0, max(self._at, 0) + len(needle))
            if at >= 0:
                return at
        return -1


def parse_labels(text: bytes) -> dict[str, str]:
    """Parse a label set as `samples` returns it. Escapes stay as they are written."""
    return {key.decode(): value.decode(errors="replace") for key, value in _LABEL.findall(text)}


def _absent(name: bytes) -> ValueError:
    return ValueError(f"{name.decode()}: not among the engine's metrics; check the engine's name and version")


def _number(text: bytes, name: bytes) -> float:
    try:
        value = float(text.split()[0])
    except (IndexError, ValueError):
        raise ValueError(f"{name.decode()}: not a number: {text[:40].decode(errors='replace')!r}") from None
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{name.decode()}: {value} is not a count or a share")
    return value
