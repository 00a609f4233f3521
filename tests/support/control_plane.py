"""A real control plane for tests, with the programs that `tests.support.binaries` finds or builds.

The engine is `penstock_loadtest.controlplane.plane`, which the operator benchmark starts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from penstock_loadtest.controlplane import plane
from penstock_loadtest.controlplane.plane import ADMIN, ControlPlane, Part, free_ports
from tests.support import binaries

__all__ = ["ADMIN", "ControlPlane", "Part", "control_plane", "free_ports"]


def control_plane(
    *, users: Sequence[str] = (), apiserver_flags: Sequence[str] = ()
) -> AbstractContextManager[ControlPlane]:
    """Run a control plane; end all of it on the way out. See `penstock_loadtest.controlplane.plane.control_plane`."""
    return plane.control_plane(binaries.find, users=users, apiserver_flags=apiserver_flags)
