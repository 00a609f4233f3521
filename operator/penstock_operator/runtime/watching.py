"""Which changes are worth a reconcile of something else."""

from __future__ import annotations

from penstock_kube.store import Change


def is_new_generation(change: Change) -> bool:
    """Return whether an object came, went, is to go, or has another spec; its status and labels are not looked at."""
    if change.old is None or change.new is None:
        return True
    old, new = change.old["metadata"], change.new["metadata"]
    read = ("uid", "generation", "deletionTimestamp")
    return any(old.get(field) != new.get(field) for field in read)
