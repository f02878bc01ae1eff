"""What holds for every test."""

from hypothesis import settings

# How long an example takes says more about the machine, and what else it does, than about the code.
settings.register_profile("millrace", deadline=None)
settings.load_profile("millrace")
