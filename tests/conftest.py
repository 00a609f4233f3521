"""What every test shares."""

import pytest
from hypothesis import settings

# Shared machines stall: an example that took long says nothing about the code.
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that Penstock runs on."""
    return "asyncio"
