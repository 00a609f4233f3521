"""What lies in Redis: one stream of entries, and one key a segment with what the ledger has committed of it.

The keys' common part in braces keeps them on one node where Redis is a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from penstock.cost.deliveries import Acknowledgement, Delivery

ACKNOWLEDGED_S: Final = 24 * 3600
"""How long an acknowledgement stays in Redis. A shipper that misses it sends again, and is told again."""

LEASE_S: Final = 30
"""How long a ledger that shows no life keeps another one from taking the stream over."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys in Redis."""

    name: str

    @property
    def stream(self) -> str:
        """The stream."""
        return f"{{{self.name}}}:stream"

    @property
    def ledger(self) -> str:
        """The identity of the ledger that reads the stream."""
        return f"{{{self.name}}}:ledger"

    def acknowledged(self, segment: str) -> str:
        """What is committed of a segment."""
        return f"{{{self.name}}}:acknowledged:{segment}"


class MalformedEntryError(ValueError):
    """An entry of the stream that no shipper of ours wrote."""


Fields = Mapping[bytes, bytes]
"""One entry as Redis has it."""


def encode_delivery(delivery: Delivery) -> dict[bytes, bytes]:
    """Return a delivery as an entry's fields."""
    flags = b"".join((b"s" * delivery.sealed, b"g" * delivery.writer_gone))
    return {
        b"segment": delivery.segment.encode(),
        b"start": b"%d" % delivery.start_bytes,
        b"flags": flags,
        b"data": delivery.data,
    }


def decode_delivery(fields: Fields) -> Delivery:
    """Return an entry's fields as a delivery.

    Raises:
        MalformedEntryError: a field is missing or cannot be read.
    """
    try:
        start_bytes = int(fields[b"start"])
        if start_bytes < 0:
            raise MalformedEntryError(f"start {start_bytes}: an offset in bytes is never below 0")
        flags = fields[b"flags"]
        return Delivery(
            segment=fields[b"segment"].decode(),
            start_bytes=start_bytes,
            data=fields[b"data"],
            sealed=b"s" in flags,
            writer_gone=b"g" in flags,
        )
    except KeyError as error:
        raise MalformedEntryError(f"no field {error.args[0].decode()!r}") from error
    except ValueError as error:
        raise MalformedEntryError(str(error)) from error


encode_acknowledgement = msgspec.json.Encoder().encode
_decode_acknowledgement = msgspec.json.Decoder(Acknowledgement).decode


def decode_acknowledgement(value: bytes | None) -> Acknowledgement | None:
    """Return what a segment's key holds; None for nothing, and for what no ledger of ours wrote."""
    if value is None:
        return None
    try:
        return _decode_acknowledgement(value)
    except msgspec.DecodeError:
        return None
