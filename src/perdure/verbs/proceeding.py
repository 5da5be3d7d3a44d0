"""Let a suspended job go on, by its id or by a query, with a modification of its execution metadata or as it is."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.answers import JobNotFound, ModificationFailed, MultipleJobsFound, NotSuspended, Proceeded
from perdure.core.states import JobState
from perdure.due import split_due
from perdure.errors import PayloadError, PayloadRefused
from perdure.query import JobQuery
from perdure.store import jobs
from perdure.store.jobs import NewPayloads
from perdure.upgrading import read_payload
from perdure.verbs.basis import Together
from perdure.verbs.looking import MOST_FOUND, Looking, check_which

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from perdure.answers import ProceedAnswer
    from perdure.core.codec import Codec
    from perdure.due import Due
    from perdure.store.jobs import JobRow, Locked
    from perdure.task import Task
    from perdure.verbs.basis import Verb

__all__ = ["Proceeding"]


class _Wish(NamedTuple):
    """What is to be done with the job that is found."""

    at: datetime | None
    after: timedelta | None
    modification: Callable[[Any], Any] | None
    task: Task[Any, Any, Any, Any] | None

    @property
    def task_name(self) -> str | None:
        return None if self.task is None else self.task.name


class Proceeding(Looking):
    """How suspended jobs are let go on."""

    def proceed(
        self,
        which: int | JobQuery,
        modification: Callable[[Any], Any] | None = None,
        *,
        at: Due | None = None,
        task: Task[Any, Any, Any, Any] | None = None,
    ) -> Verb[ProceedAnswer]:
        """Let a suspended job go on; of one task only, when that is given."""
        which = check_which("proceed", which)
        wish = _Wish(*split_due(at, key="at"), modification, task)
        while True:
            if isinstance(which, JobQuery):
                answer = yield from self._proceed_found(which, wish)
            elif modification is None:
                answer = yield from self._proceed(which, wish)
            else:
                answer = yield Together(self._proceed_locked(which, wish))
            if answer is not None:
                found: ProceedAnswer = answer
                return found
            # It has moved between two looks: look anew.

    def _proceed_found(self, query: JobQuery, wish: _Wish) -> Verb[ProceedAnswer | None]:
        found = yield from self.find(query, wish.task)
        if not found:
            return JobNotFound()
        if len(found) > 1:
            return MultipleJobsFound([self.job(row) for row in found[:MOST_FOUND]])
        if JobState.from_code(found[0].state).is_final:
            return NotSuspended(self.job(found[0]))
        answer: ProceedAnswer | None = yield Together(self._proceed_locked(found[0].id, wish, query))
        return answer

    def _proceed_locked(self, job_id: int, wish: _Wish, query: JobQuery | None = None) -> Verb[ProceedAnswer | None]:
        """Lock the job; make sure that it is still the only one of the query; change it; let it go on."""
        locked: Locked | None = yield jobs.lock(self.names, job_id, task=wish.task_name, at=wish.at, after=wish.after)
        if locked is None:
            return None if query is not None else (yield from self._not_live(job_id, wish))
        if query is not None:
            found = yield from self.find(query, wish.task)
            if [row.id for row in found] != [job_id]:
                return None
        if wish.modification is None:
            return (yield from self._proceed(job_id, wish))
        if not locked.waits:
            return NotSuspended(self.job(locked.row))
        payloads = self._modified(locked.row, wish.modification)
        if isinstance(payloads, ModificationFailed):
            return payloads
        return (yield from self._proceed(job_id, wish, locked.checkpoint, payloads))

    def _proceed(
        self, job_id: int, wish: _Wish, checkpoint: int | None = None, payloads: NewPayloads | None = None
    ) -> Verb[ProceedAnswer | None]:
        proceeding: jobs.Proceeding | None = yield jobs.proceed(
            self.names,
            job_id,
            at=wish.at,
            after=wish.after,
            task=wish.task_name,
            checkpoint=checkpoint,
            payloads=payloads,
        )
        if proceeding is None:
            return (yield from self._not_live(job_id, wish))
        job = self.job(proceeding.row)
        return Proceeded(job) if proceeding.goes_on else NotSuspended(job)

    def _not_live(self, job_id: int, wish: _Wish) -> Verb[ProceedAnswer | None]:
        """Answer for a job that isn't live, or of another task; None when it is live again by now."""
        row = yield from self.read(job_id)
        if row is None or (wish.task is not None and row.task != wish.task.name):
            return JobNotFound()
        return NotSuspended(self.job(row)) if JobState.from_code(row.state).is_final else None

    def _modified(self, row: JobRow, modification: Callable[[Any], Any]) -> NewPayloads | ModificationFailed:
        """Apply the modification to what is stored."""
        task = self.tasks.get(row.task)
        if task is None:
            return ModificationFailed(
                f"job {row.id} is of the task {row.task!r}, which this app doesn't have: the type of its execution "
                "metadata isn't known here"
            )
        what = f"job {row.id}: execution metadata"
        try:
            value = read_payload(task, "execution_metadata", row.execution_metadata, row.version, what=what)
            metadata = self.current_metadata(task, row)
            changed = _called(modification, value)
            what = f"execution metadata of {row.task}"
            data = _encoded(task.execution_metadata, changed, what, self.max_payload_bytes)
        except (PayloadError, _ModificationError) as error:
            return ModificationFailed(str(error))
        return NewPayloads(data, metadata, task.options.version)


class _ModificationError(Exception):
    """What the modification did that it may not do."""


def _called(modification: Callable[[Any], Any], value: Any) -> Any:
    try:
        changed = modification(value)
    except PayloadError:
        raise
    except Exception as error:
        message = f"the modification raised {type(error).__qualname__}: {error}"
        raise _ModificationError(message) from error
    if inspect.iscoroutine(changed):
        changed.close()
        message = "the modification is an async function; it must be a plain one, as a lock is held meanwhile"
        raise _ModificationError(message)
    return changed


def _encoded(codec: Codec[Any], changed: Any, what: str, limit: int) -> bytes:
    try:
        return codec.encode(changed, what=what, limit=limit)
    except PayloadRefused as error:
        hint = "" if changed is not None else "; a modification that changes the object has to return it as well"
        message = f"the modification returned what can't be stored: {error}{hint}"
        raise _ModificationError(message) from error
