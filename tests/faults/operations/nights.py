"""What takes too long for every push."""

from __future__ import annotations

import pytest

from tests.support.tiers import TIER

__all__ = ["AT_NIGHT"]

AT_NIGHT = pytest.mark.skipif(TIER == "push", reason="tried by `make faults`, not on every push")
