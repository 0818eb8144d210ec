"""Settings for all tests."""

from hypothesis import settings

# a loaded machine is no failing test
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
