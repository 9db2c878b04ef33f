"""What holds for every test."""

from hypothesis import settings

# A busy machine must not fail a law.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
