"""What is known of an attempt of a job: when, where, what woke it, how it ended.

Its error is decoded when it is looked at, as a job's payloads are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from perdure.core import failure
from perdure.core.history import AttemptEnding
from perdure.core.states import WokenBy
from perdure.errors import PayloadUndecodable
from perdure.upgrading import read_plain

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from perdure.core.codec import Codec
    from perdure.core.failure import Raised
    from perdure.store.jobs import AttemptRow

__all__ = ["AttemptRecord", "decode_error", "decode_woken_by"]

E = TypeVar("E")


class AttemptRecord(Generic[E]):
    """An attempt of a job, as it was when it was read."""

    __slots__ = ("_codec", "_job_id", "_row")

    def __init__(self, job_id: int, row: AttemptRow, codec: Codec[E] | None) -> None:
        """Show what was read; without a codec a declared error is plain JSON."""
        self._job_id = job_id
        self._row = row
        self._codec = codec

    def __repr__(self) -> str:
        return f"<AttemptRecord {self.number} of job {self._job_id}: {self.ending}>"

    @property
    def number(self) -> int:
        """Which one it was, counted from 1."""
        return self._row.attempt

    @property
    def worker_id(self) -> UUID | None:
        """The worker that ran it."""
        return self._row.worker_id

    @property
    def started_at(self) -> datetime | None:
        """When a worker took the job for it: up to a second before its handler was called, where many wait."""
        return self._row.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, by what was noticed of it; None while it runs."""
        return self._row.ended_at

    @property
    def duration(self) -> timedelta | None:
        """From `started_at` to `ended_at`; None while it runs."""
        started_at, ended_at = self._row.started_at, self._row.ended_at
        return None if started_at is None or ended_at is None else ended_at - started_at

    @property
    def ending(self) -> AttemptEnding:
        """How it ended."""
        return AttemptEnding.from_code(self._row.ending)

    @property
    def woken_by(self) -> WokenBy:
        """What had let the job go on from its last suspension before it.

        Raises:
            PayloadUndecodable: What is stored is nothing that this version knows.
        """
        return decode_woken_by(self._row.woken_by, what=f"job {self._job_id}, attempt {self.number}")

    @property
    def error(self) -> E | Raised | None:
        """What it ended with: of the task's type from `Failed` and `Cancelled`, else `Raised`; None without an error.

        Raises:
            PayloadUndecodable: What is stored doesn't fit the task's type.
        """
        data = self._row.error
        if data is None:
            return None
        error: E | Raised = decode_error(data, self._codec, what=f"job {self._job_id}, attempt {self.number}: error")
        return error


def decode_error(data: bytes, codec: Codec[Any] | None, *, what: str) -> Any:
    """Decode a stored error: an exception, or one of the task's type; without a codec as plain JSON.

    Raises:
        PayloadUndecodable: It is neither.
    """
    try:
        found = failure.split(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        message = f"{what}: {error}"
        raise PayloadUndecodable(message) from error
    if not isinstance(found, bytes):
        return found
    return read_plain(found, what=what) if codec is None else codec.decode(found, what=what)


def decode_woken_by(code: int, *, what: str) -> WokenBy:
    """Read the code of what has woken a job.

    Raises:
        PayloadUndecodable: There is no such code: a newer version has written it, or somebody by hand.
    """
    try:
        return WokenBy.from_code(code)
    except ValueError as error:
        message = f"{what}: woken by: {error}"
        raise PayloadUndecodable(message) from error
