"""Send an event to a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.answers import JobEnded, JobNotFound, MultipleJobsFound, Sent
from perdure.core.states import JobState
from perdure.errors import MisuseError, PayloadRefused
from perdure.query import JobQuery
from perdure.store import jobs
from perdure.verbs.basis import Together
from perdure.verbs.looking import MOST_FOUND, Looking, check_which

if TYPE_CHECKING:
    from perdure.answers import SendAnswer
    from perdure.store.calls import Call
    from perdure.task import Task
    from perdure.verbs.basis import Verb

__all__ = ["Sending"]


class Sending(Looking):
    """How events come to jobs."""

    def send(
        self, task: Task[Any, Any, Any, Any], which: int | JobQuery, event: object, *, in_callers_transaction: bool
    ) -> Verb[SendAnswer]:
        """Store an event for a job of this task."""
        which = check_which("send", which)
        data = self._encode_event(task, event)
        while True:
            if isinstance(which, JobQuery):
                answer = yield from self._send_found(task, which, data, in_callers_transaction=in_callers_transaction)
            else:
                answer = yield from self._send(task, which, data, in_callers_transaction=in_callers_transaction)
            if answer is not None:
                return answer
            # It has moved between two looks: look anew.

    def _send_found(
        self, task: Task[Any, Any, Any, Any], query: JobQuery, data: bytes, *, in_callers_transaction: bool
    ) -> Verb[SendAnswer | None]:
        found = yield from self.find(query, task)
        if not found:
            return JobNotFound()
        if len(found) > 1:
            return MultipleJobsFound([self.job(row) for row in found[:MOST_FOUND]])
        if JobState.from_code(found[0].state).is_final:
            return JobEnded(self.job(found[0]))
        sending = self._send_held(task, query, found[0].id, data, in_callers_transaction=in_callers_transaction)
        answer: SendAnswer | None = yield Together(sending)
        return answer

    def _send_held(
        self,
        task: Task[Any, Any, Any, Any],
        query: JobQuery,
        job_id: int,
        data: bytes,
        *,
        in_callers_transaction: bool,
    ) -> Verb[SendAnswer | None]:
        """Hold the job; make sure that it is still the only one of the query; send."""
        is_live: bool = yield jobs.hold(self.names, job_id)
        if not is_live:
            return None
        found = yield from self.find(query, task)
        if [row.id for row in found] != [job_id]:
            return None
        return (yield from self._send(task, job_id, data, in_callers_transaction=in_callers_transaction))

    def _send(
        self, task: Task[Any, Any, Any, Any], job_id: int, data: bytes, *, in_callers_transaction: bool
    ) -> Verb[SendAnswer | None]:
        call: Call[int | None] = jobs.send(
            self.names,
            job_id,
            task=task.name,
            version=task.options.version,
            event=data,
            notify=in_callers_transaction,
        )
        state: int | None = yield call
        if state is not None:
            return Sent(job_id)
        row = yield from self.read(job_id)
        if row is None or row.task != task.name:
            return JobNotFound()
        return JobEnded(self.job(row)) if JobState.from_code(row.state).is_final else None

    def _encode_event(self, task: Task[Any, Any, Any, Any], event: object) -> bytes:
        if task.events is None:
            message = (
                f"send: the task {task.name!r} takes no events; declare what they may be where it is defined: "
                f"@app.task({task.name!r}, events=Approved | Rejected)"
            )
            raise MisuseError(message)
        if event is None:
            message = f"event of {task.name}: None can't be one: next_event() returns it when there is none"
            raise PayloadRefused(message)
        return task.events.encode(event, what=f"event of {task.name}", limit=self.max_payload_bytes)
