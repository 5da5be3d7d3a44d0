"""How an attempt ended, as its history tells it.

Only names what has happened; what becomes of the job is decided in `perdure.core.decide`.
"""

from __future__ import annotations

from perdure.core.coded import Coded

__all__ = ["AttemptEnding"]


class AttemptEnding(Coded):
    """How an attempt ended; the value is the word that users see."""

    # It hasn't: the attempt is under way. Never stored.
    RUNNING = "running", 0
    RAISED = "raised", 1
    TIMED_OUT = "timed out", 2
    # `Failed` with a retry left.
    FAILED = "failed", 3
    SUSPENDED = "suspended", 4
    # Its worker was stopped, and it with it.
    STOPPED = "stopped", 5
    # Its worker was lost.
    LAPSED = "lapsed", 6
    # It ended the job: from here on the codes are those of the final states, and one.
    COMPLETED = "job completed", 7
    JOB_FAILED = "job failed", 8
    JOB_CANCELLED = "job cancelled", 9
