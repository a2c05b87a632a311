"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# Machines are noisy: that a test took long says nothing.
settings.register_profile("alcove", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("alcove")
