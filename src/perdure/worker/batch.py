"""What one exchange carries: all kinds of entries that wait at the desk, and how many of them fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.errors import LeaseLost
from perdure.store.settles import Deferral, Finish, Persist, ProgressReport, PutBack, Release

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from perdure.attempt import Attempt

__all__ = ["BATCH_BYTES", "LEAST_BATCH_BYTES", "Batch", "PendingPersist", "fail_persist", "fitting"]

_BATCH = 1000
# A statement's parameters must fit into memory several times over; and into PostgreSQL's 1 GB for a message.
BATCH_BYTES = 16 * 1024 * 1024
LEAST_BATCH_BYTES = 64 * 1024
_ROW_BYTES = 100


@dataclass(slots=True)
class PendingPersist:
    """A checkpoint on its way, and who waits for it."""

    entry: Persist
    attempt: Attempt
    written: asyncio.Future[None]


@dataclass(slots=True)
class Batch:
    """What one exchange carries. Entries are sorted by id, one of each kind a job.

    Attributes:
        outcome_bytes: How large the outcomes are, of both kinds.
        size_bytes: How large these and the checkpoints are.
    """

    finishes: list[Finish] = field(default_factory=list[Finish])
    releases: list[Release] = field(default_factory=list[Release])
    persists: list[PendingPersist] = field(default_factory=list[PendingPersist])
    progress: list[ProgressReport] = field(default_factory=list[ProgressReport])
    put_backs: list[PutBack] = field(default_factory=list[PutBack])
    deferrals: list[Deferral] = field(default_factory=list[Deferral])
    outcome_bytes: int = 0
    size_bytes: int = 0

    @property
    def returns(self) -> list[PutBack | Deferral]:
        """The claims to give back, of both kinds."""
        return [*self.put_backs, *self.deferrals]

    @property
    def settles(self) -> list[Finish | Release]:
        """The outcomes of both kinds."""
        return [*self.finishes, *self.releases]

    def singly(self) -> list[Batch]:
        """The same entries, each in a batch of its own."""
        return [
            *(Batch(persists=[pending]) for pending in self.persists),
            *(Batch(progress=[report]) for report in self.progress),
            *(Batch(finishes=[entry]) for entry in self.finishes),
            *(Batch(releases=[entry]) for entry in self.releases),
            *(Batch(put_backs=[entry]) for entry in self.put_backs),
            *(Batch(deferrals=[entry]) for entry in self.deferrals),
        ]

    def fail_persists(self) -> None:
        """Tell whoever waits for a checkpoint that it won't be written: the lease is lost."""
        for pending in self.persists:
            fail_persist(pending)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(
            self.finishes or self.releases or self.persists or self.progress or self.put_backs or self.deferrals
        )


def fitting(entries: Sequence[Finish | Release | Persist], room: int) -> tuple[int, int]:
    """Return how many of the entries fit into the room of a batch, at least one, and how many bytes these are."""
    count, size = 0, 0
    for entry in entries[:_BATCH]:
        execution_metadata = entry.execution_metadata
        size += _ROW_BYTES if execution_metadata is None else _ROW_BYTES + len(execution_metadata)
        if isinstance(entry, Persist):
            size += sum(len(result) for _, result in entry.steps)
        else:
            if isinstance(entry, Finish) and entry.result is not None:
                size += len(entry.result)
            if entry.error is not None:
                size += len(entry.error)
            if entry.last_error is not None:
                size += len(entry.last_error)
        count += 1
        if size >= room:
            break
    return count, size


def fail_persist(pending: PendingPersist) -> None:
    """Tell whoever waits for a checkpoint that it isn't and won't be written."""
    if not pending.written.done():
        job = pending.attempt.job
        message = (
            f"job {job.id}, attempt {job.attempt}: the lease is lost, the execution metadata wasn't persisted; another "
            "attempt goes on from what was"
        )
        pending.written.set_exception(LeaseLost(message))
        pending.written.exception()  # its waiter may have been left behind: no complaint about that
