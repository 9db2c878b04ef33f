"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A busy machine must not fail a law.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")
