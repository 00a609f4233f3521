"""What a package of controllers adds to the process: controllers that only the leader runs, and mirrors they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock_kube.client import KubeClient
from penstock_kube.reflector import Reflector
from penstock_kube.resources import Kind
from penstock_operator.runtime.controller import Controller
from penstock_operator.world import Mirror


@dataclass(frozen=True, slots=True)
class Part:
    """Controllers, and the mirrors that belong to nobody else."""

    controllers: tuple[Controller, ...]
    mirrors: tuple[Mirror, ...] = ()

    @property
    def reflectors(self) -> tuple[Reflector, ...]:
        """Reflectors of the mirrors, for the manager to run."""
        return tuple(reflector for mirror in self.mirrors for reflector in mirror.reflectors)


def mirror(client: KubeClient, kind: Kind, namespaces: Sequence[str], **options: Any) -> Mirror:
    """Return a mirror of one kind in the watched namespaces.

    Args:
        client: makes the calls.
        kind: what to mirror.
        namespaces: those watched; all of them when empty, as always for cluster-scoped kinds.
        **options: of each `Reflector`.
    """
    spaces = tuple(namespaces) if namespaces and kind.namespaced else ("",)
    return Mirror(kind, [Reflector(client, kind, namespace=namespace, **options) for namespace in spaces])
