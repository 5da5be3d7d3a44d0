"""Which cuts are made: all in the night; on a push one that loses what was sent, one that doesn't, or either."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.support.proxy import CUTS, LOST
from tests.support.tiers import TIER, seeds

if TYPE_CHECKING:
    from tests.support.proxy import Cut

__all__ = ["cuts"]


def cuts(name: str, *, both: bool = True) -> list[Cut]:
    """Return the cuts of this run's tier for a test, drawn by its seed; `both`: on a push one of each kind."""
    if TIER == "nightly":
        return list(CUTS)
    [seed] = seeds(name, push=1, nightly=1)
    draw = random.Random(seed)
    drawn = [draw.choice([cut for cut in CUTS if (cut in LOST) is lost]) for lost in (True, False)]
    return drawn if both else [draw.choice(drawn)]
