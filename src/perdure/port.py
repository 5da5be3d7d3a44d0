"""What a running attempt needs of whoever runs it: a worker implements this in `perdure.worker.port`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from perdure.attempt import Attempt
    from perdure.errors import DatabaseUnavailable
    from perdure.store.running import Event, SleepBegun, Upgrade
    from perdure.store.settles import Persist
    from perdure.store.sql import Names

__all__ = ["Port"]


class Port(Protocol):
    """What an attempt needs of its worker."""

    @property
    def names(self) -> Names:
        """The schema's names."""
        ...

    @property
    def lease_seconds(self) -> float:
        """How long the worker's lease lasts after each renewal."""
        ...

    @property
    def max_payload_bytes(self) -> int:
        """The longest JSON of a payload."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the worker has been asked to stop."""
        ...

    def holds(self, worker_id: UUID) -> bool:
        """Whether the lease of this id is still valid, by this process's monotonic clock."""
        ...

    async def persist(self, attempt: Attempt, entry: Persist) -> None:
        """Write a checkpoint, and tell the attempt (`wrote`) when it is written.

        Raises:
            LeaseLost: The attempt may not write any more.
        """

    async def next_event(self, attempt: Attempt) -> Event | None:
        """Read the job's oldest event that the attempt hasn't been given."""
        ...

    async def steps(self, attempt: Attempt) -> dict[str, bytes]:
        """Read what the job's steps have returned, as JSON, by their keys."""
        ...

    async def begin_sleep(self, attempt: Attempt, key: str, seconds: float, found: bytes | None) -> SleepBegun:
        """Store until when a sleep lasts, or find it stored; `found`: the execution metadata to store with it, as JSON.

        Raises:
            LeaseLost: The attempt may not write any more.
        """
        ...

    async def upgrade(self, attempt: Attempt, entry: Upgrade) -> None:
        """Write both payloads as newer code has them, as the job's next checkpoint.

        Raises:
            LeaseLost: The attempt may not write any more.
        """

    def report_progress(self, attempt: Attempt, data: bytes) -> None:
        """Write the progress soon."""

    def pool(self) -> AsyncConnectionPool[AsyncConnection[Any]]:
        """The application's pool."""
        ...

    def blocking_pool(self) -> ConnectionPool[Connection[Any]]:
        """The application's sync pool, for a handler's thread."""
        ...

    def pool_exhausted(self) -> DatabaseUnavailable:
        """What to raise when a pool has no connection in time."""
        ...

    async def has_landed(self, attempt: Attempt, entry: Persist) -> bool:
        """Find out for good whether the COMMIT of this checkpoint was done.

        Raises:
            LeaseLost: It wasn't, and the attempt may not write any more.
        """
        ...
