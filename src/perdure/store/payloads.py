"""The calls that read the payloads of all live jobs, page by page: for a check of the code that is to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perdure.store.calls import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.store.sql import Names

__all__ = ["LivePayloads", "UnreadPayload", "count_live", "live_payloads", "unread_payloads"]


class LivePayloads(NamedTuple):
    """The payloads of a live job, as JSON; `state` is a code of `JobState`."""

    id: int
    task: str
    state: int
    version: int
    metadata: bytes
    execution_metadata: bytes


class UnreadPayload(NamedTuple):
    """An event that its job hasn't consumed, as JSON."""

    job_id: int
    id: int
    version: int
    data: bytes


def live_payloads(names: Names, *, after: int, limit: int, max_bytes: int) -> Call[list[LivePayloads]]:
    """Read a page of live jobs behind the id `after`: no more than `limit`, nor (but for one) than so many bytes."""
    parameters = {"after": after, "limit": limit, "bytes": max_bytes}
    statement = names.statements["live_payloads"]
    return Call(statement, parameters, lambda rows: [LivePayloads(*row) for row in rows])


def unread_payloads(
    names: Names, job_ids: Sequence[int], *, after: int, limit: int, max_bytes: int
) -> Call[list[UnreadPayload]]:
    """Read a page of the events of these jobs, in their order; of the first job, those behind the event `after`."""
    parameters = {"ids": list(job_ids), "after": after, "limit": limit, "bytes": max_bytes}
    statement = names.statements["unread_payloads"]
    return Call(statement, parameters, lambda rows: [UnreadPayload(*row) for row in rows])


def count_live(names: Names) -> Call[int]:
    """Count the live jobs."""
    return Call(names.statements["count_live"], {}, lambda rows: int(rows[0][0]))
