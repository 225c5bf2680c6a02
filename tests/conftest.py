"""For all tiers."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# On top of the profile that is loaded (in CI another one). Time tells nothing of pure code on a machine that is busy with other things.
settings.register_profile("ganglion", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganglion")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Property tests first: they take longest, and the last of the processes that share a tier's tests decides how long it takes."""
    items.sort(key=lambda item: item.get_closest_marker("hypothesis") is None)
