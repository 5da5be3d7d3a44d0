"""Cancel a job; and take one that has ended back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.answers import CancelRequested, JobEnded, JobNotFound, NotFinal, Retried
from perdure.core.codec import codec_for
from perdure.core.states import JobState
from perdure.errors import MisuseError, PayloadRefused, PayloadUndecodable
from perdure.store import jobs
from perdure.store.jobs import NewPayloads
from perdure.verbs.looking import Looking, check_id

if TYPE_CHECKING:
    from perdure.answers import CancelAnswer, RetryAnswer
    from perdure.store.jobs import JobRow
    from perdure.verbs.basis import Verb

__all__ = ["Ending"]


class Ending(Looking):
    """How jobs are ended from outside, and their ends undone."""

    def cancel(self, job_id: int) -> Verb[CancelAnswer]:
        """Cancel a job, or ask its attempt to be."""
        while True:
            requested: bool = yield jobs.cancel(self.names, check_id(job_id))
            requested = requested or (yield jobs.request_cancel(self.names, job_id))
            row = yield from self.read(job_id)
            if row is None:
                return JobNotFound()
            if requested:
                return CancelRequested(self.job(row))
            # Between the calls it may have moved from waiting to running, or back: then ask again.
            if JobState.from_code(row.state).is_final:
                return JobEnded(self.job(row))

    def retry(self, job_id: int, *, afresh: bool = False, execution_metadata: object = None) -> Verb[RetryAnswer]:
        """Let an ended job begin again, from its checkpoint or afresh."""
        if execution_metadata is not None and not afresh:
            message = (
                "retry: execution_metadata= is the first checkpoint of a job that begins afresh; give afresh=True as "
                "well, or leave both to go on from the checkpoint that is stored"
            )
            raise MisuseError(message)
        while True:
            row = yield from self.read(job_id)
            if row is None:
                return JobNotFound()
            if not JobState.from_code(row.state).is_final:
                return NotFinal(self.job(row))
            retried: JobRow | None
            if afresh:
                payloads = self._first_payloads(row, execution_metadata)
                retried = yield jobs.retry(self.names, job_id, attempt=row.attempt, payloads=payloads)
            else:
                retried = yield jobs.retry(self.names, job_id)
            if retried is not None:
                return Retried(self.job(retried))
            # Somebody else has retried it meanwhile: look anew.

    def _first_payloads(self, row: JobRow, execution_metadata: object) -> NewPayloads:
        """Make the checkpoint that the job begins with.

        Raises:
            MisuseError: The app doesn't know the task's type, or that has no default; or it can't read the metadata.
            PayloadRefused: What was given can't be stored.
        """
        task = self.tasks.get(row.task)
        if task is None:
            if execution_metadata is None:
                message = (
                    f"retry: job {row.id} is of the task {row.task!r}, which this app doesn't have, so its first "
                    "checkpoint isn't known: give it as execution_metadata="
                )
                raise MisuseError(message)
            codec = codec_for(Any)
            data = codec.encode(execution_metadata, what="execution_metadata", limit=self.max_payload_bytes)
            return NewPayloads(data, None, row.version)
        if execution_metadata is None:
            try:
                task.execution_metadata.default()
            except PayloadRefused as error:
                message = f"retry: job {row.id} ({row.task}) can't begin afresh: {error}; give execution_metadata="
                raise MisuseError(message) from error
        try:
            metadata = self.current_metadata(task, row)
        except PayloadUndecodable as error:
            message = f"retry: job {row.id} ({row.task}) can't begin afresh with this code: {error}"
            raise MisuseError(message) from error
        return NewPayloads(self.encode_checkpoint(task, execution_metadata), metadata, task.options.version)
