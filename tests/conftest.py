"""For all tiers."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# On top of the profile that is loaded (in CI another one). Time tells nothing of pure code on a machine that is busy with other things.
settings.register_profile("ganglion", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganglion")
