"""The same examples on every run; ``--hypothesis-profile=explore`` looks for new ones, far longer."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", max_examples=1000, database=None, deadline=None)
settings.load_profile("fixed")
