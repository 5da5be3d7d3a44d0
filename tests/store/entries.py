"""Outcomes of claimed jobs, as short as a test wants to name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.store.settles import Finish, Release

if TYPE_CHECKING:
    from perdure.store.claims import Claimed

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "PENDING",
    "PROCEEDED",
    "RETRYING",
    "SUSPENDED",
    "to_finish",
    "to_release",
]

PENDING, RETRYING, SUSPENDED, PROCEEDED = 0, 3, 4, 5
COMPLETED, FAILED, CANCELLED = 6, 7, 8


def to_finish(job: Claimed, state: int = COMPLETED, **change: Any) -> Finish:
    """A final outcome."""
    return Finish(job.id, job.claim, job.checkpoint, state, None, b"null", None, None)._replace(**change)


def to_release(job: Claimed, state: int = RETRYING, **change: Any) -> Release:
    """An outcome after which the job goes on later."""
    return Release(
        id=job.id,
        claim=job.claim,
        checkpoint=job.checkpoint,
        state=state,
        execution_metadata=None,
        keep_place=False,
        due_at=None,
        due_seconds=0.0,
        retry_number=0,
        scheduler_retries=0,
        lapses=0,
        suspect=False,
        use_proceed=False,
        error=None,
        last_error=None,
        ending=1,
    )._replace(**change)
