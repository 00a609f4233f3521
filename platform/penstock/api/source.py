"""Where weights come from: one URI form for hubs, volumes, object stores, registries and folders."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

SCHEMES = {
    "hf": "hf://ORGANISATION/NAME, with @REVISION to pin one",
    "pvc": "pvc://CLAIM/PATH",
    "s3": "s3://BUCKET/PREFIX",
    "gs": "gs://BUCKET/PREFIX",
    "oci": "oci://REGISTRY/REPOSITORY:TAG",
    "file": "file:///ABSOLUTE/PATH or, beside the manifest, file://./PATH",
    "tiny": "tiny://llama, a tiny Llama with random weights that Penstock makes itself, for demos and tests",
}


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """A parsed source."""

    scheme: str
    location: str
    """What follows `://`, without a revision."""
    revision: str | None = None
    """The hub revision, when one is pinned."""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{self.scheme}://{self.location}{revision}"

    @property
    def is_relative(self) -> bool:
        """Whether this is a folder given relative to the file that names it."""
        return self.scheme == "file" and not self.location.startswith("/")

    def beside(self, folder: Path) -> WeightsSource:
        """Return the source with a relative `file://` location made absolute below `folder`; others unchanged."""
        if not self.is_relative:
            return self
        return WeightsSource(scheme="file", location=str((folder / self.location).resolve()))


def parse_source(text: str) -> WeightsSource:
    """Parse a weights URI.

    Raises:
        ValueError: not a URI of a known scheme; the message names the remedy.
    """
    scheme, separator, location = text.partition("://")
    if not separator:
        raise ValueError(_bare_remedy(text))
    if scheme not in SCHEMES:
        close = difflib.get_close_matches(scheme, SCHEMES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}://?" if close else f"use one of {', '.join(f'{name}://' for name in SCHEMES)}"
        raise ValueError(f"{text!r} has the unknown scheme {scheme!r}: {hint}")
    revision: str | None = None
    if scheme == "hf" and "@" in location:
        location, _, revision = location.partition("@")
    wrong_hub = scheme == "hf" and (location.count("/") != 1 or location.startswith("/") or location.endswith("/"))
    unnamed = not location.strip("/") or (scheme != "file" and location.startswith("/"))
    if wrong_hub or unnamed or revision == "" or any(sign.isspace() for sign in text):
        raise ValueError(f"{text!r} is not a complete {scheme}:// address: write {SCHEMES[scheme]}")
    return WeightsSource(scheme=scheme, location=location, revision=revision)


def _bare_remedy(text: str) -> str:
    if text.startswith("/"):
        return f"{text!r} is a bare path: write file://{text}"
    if text.startswith(("./", "../", "~")) or text in (".", ".."):
        remedy = (
            "an absolute path after file://" if text.startswith("~") else f"file://{text} (relative to the manifest)"
        )
        return f"{text!r} is a relative path: write {remedy}"
    if text.count("/") == 1 and not text.startswith("hf:"):
        return f"{text!r} has no scheme: write hf://{text} for a hub model, or file://./{text} for a folder"
    return f"{text!r} is not a URI: write one of {'; '.join(SCHEMES.values())}"


def _check(text: str) -> str:
    try:
        parse_source(text)
    except ValueError as error:
        raise PydanticCustomError("source", "{reason}", {"reason": str(error)}) from None
    return text


SourceUri = Annotated[str, AfterValidator(_check)]
"""A weights URI, checked by `parse_source`."""
