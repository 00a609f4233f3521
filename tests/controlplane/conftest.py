"""One control plane for the tests that leave it whole; those that break it bring their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.control_plane import ControlPlane, control_plane
from tests.support.stage import Stage, stage


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane that is shared: use a namespace of your own, and leave its parts running."""
    with control_plane(users=("operator", "gateway", "visitor")) as running:
        yield running


@pytest.fixture(scope="module")
def breakable() -> Iterator[ControlPlane]:
    """A control plane whose parts a module's tests may stop, and must start again."""
    with control_plane() as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[Stage]:
    """A cluster with an operator process, for tests that break what it looks after."""
    with stage() as running:
        yield running


@pytest.fixture(scope="module")
def two_operators() -> Iterator[Stage]:
    """A cluster with two operator processes, for tests that break them or the control plane, and mend it again."""
    with stage(operators=2, lease_s=6.0) as running:
        yield running
