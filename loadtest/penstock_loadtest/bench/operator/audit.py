"""Who called the API server how often: its audit log, counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

LEASES = "leases"


class Call(NamedTuple):
    """A kind of call, as the API server names it."""

    verb: str
    resource: str
    """Plural, with its subresource: `models/status`."""


class AuditLog:
    """Counts the calls of one user. Watches are counted when they begin."""

    def __init__(self, folder: Path, user: str) -> None:
        """Write the policy that logs the user's calls and nobody else's; nothing is logged yet."""
        self._log = folder / "audit.log"
        self._policy = folder / "audit-policy.json"
        rules = [{"level": "Metadata", "users": [user], "omitStages": ["RequestReceived"]}, {"level": "None"}]
        self._policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
        self._counts: Counter[Call] = Counter()
        self._offset = 0

    def flags(self) -> list[str]:
        """Return the flags for kube-apiserver."""
        return [f"--audit-policy-file={self._policy}", f"--audit-log-path={self._log}"]

    def counts(self) -> Counter[Call]:
        """Return the calls so far."""
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(self._offset)
                for line in log:
                    if not line.endswith(b"\n"):
                        break  # still being written
                    self._offset += len(line)
                    self._count(json.loads(line))
        return self._counts.copy()

    def _count(self, event: dict[str, object]) -> None:
        if event["verb"] == "watch" and event["stage"] != "ResponseStarted":
            return
        target = event.get("objectRef")
        if isinstance(target, dict):
            inside = f"/{target['subresource']}" if target.get("subresource") else ""
            self._counts[Call(str(event["verb"]), f"{target['resource']}{inside}")] += 1


def deeds(counts: Counter[Call]) -> Counter[Call]:
    """Return the calls without watches and without the lease."""
    return Counter(
        {call: count for call, count in counts.items() if call.verb != "watch" and call.resource != LEASES and count}
    )
