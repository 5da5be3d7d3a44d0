"""How often to look where looking may cost much: by what it has cost.

Where dead rows can't be removed, since somebody holds a snapshot (a backup, a report), a look through an index steps
over all of them. Such looks take no more than a part of the time, as long as they come now and then.

Pure policy, without I/O.
"""

from __future__ import annotations

__all__ = ["rest_seconds"]

_SHARE = 0.01


def rest_seconds(took_seconds: float, *, least: float, most: float, share: float = _SHARE) -> float:
    """Return how long to wait after a look that took so long.

    Args:
        took_seconds: How long it took.
        least: How long to wait, in seconds, however little it took.
        most: How long to wait, in seconds, however long it took.
        share: What part of the time such looks may take.
    """
    return min(most, max(least, took_seconds / share))
