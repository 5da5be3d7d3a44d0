"""What can be asked of an app's jobs, whatever their tasks: the verbs of `App`. No logic of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from perdure.answers import CancelAnswer, ProceedAnswer, RetryAnswer
    from perdure.client import Client
    from perdure.due import Due
    from perdure.history import AttemptRecord
    from perdure.job import Job
    from perdure.query import JobQuery
    from perdure.resuming import ResumeProblem, ResumeProgress

__all__ = ["Operating"]


class Operating:
    """The verbs; the app has the client."""

    _client: Client

    async def proceed(
        self, which: int | JobQuery, modification: Callable[[Any], Any] | None = None, *, at: Due | None = None
    ) -> ProceedAnswer:
        """Let a suspended job go on; a running one goes on as soon as it suspends.

        Args:
            which: The job's id, or a query that finds one job; it looks at jobs that haven't ended, unless it names
                states.
            modification: Is given the job's execution metadata, typed, and returns what it is to be: another object, or
                the same one changed. It is called with the job's row locked, so it should be quick; a query may find
                another job, and it is called again. A job that runs, or is in a `ctx.sleep()`, isn't modified.
            at: When: an aware datetime, or a timedelta from now by the database's clock; None and the past mean now.

        Returns:
            `Proceeded(job)`; `NotSuspended(job)`, with the state that it was in; `ModificationFailed(message)`;
            `JobNotFound()`; or, for a query, `MultipleJobsFound(jobs)`. All but the first change nothing.
        """
        return await self._client.proceed(which, modification, at=at)

    async def cancel(self, job_id: int) -> CancelAnswer:
        """Cancel a job: at once, or, when it is running, at the end of its attempt.

        Returns:
            `CancelRequested(job)`; `JobEnded(job)`, when it had ended before; or `JobNotFound()`.
        """
        return await self._client.cancel(job_id)

    async def retry(self, job_id: int, *, afresh: bool = False, execution_metadata: object = None) -> RetryAnswer:
        """Let an ended job begin again, now: retries start afresh, attempts are counted on, a deadline is lifted.

        Args:
            job_id: The job.
            afresh: Whether it begins at the beginning, with the default of its execution metadata, and without the
                steps and unread events that it had; else it goes on from its checkpoint.
            execution_metadata: With `afresh`, its first checkpoint, when the type has no default.

        Returns:
            `Retried(job)`; `NotFinal(job)`, when it hasn't ended; or `JobNotFound()`.

        Raises:
            MisuseError: It can't begin afresh: the type has no default, or the app doesn't have the task.
            PayloadRefused: `execution_metadata` can't be stored.
        """
        return await self._client.retry(job_id, afresh=afresh, execution_metadata=execution_metadata)

    async def job(self, job_id: int) -> Job[Any, Any, Any, Any]:
        """Read a job.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        return await self._client.job(job_id)

    def jobs(self, query: JobQuery | None = None) -> AsyncGenerator[Job[Any, Any, Any, Any]]:
        """Read jobs, by id: `async for job in app.jobs(JobQuery(states=[JobState.SUSPENDED]))`.

        They are read page by page, each in a statement of its own; one that is there throughout comes exactly once.
        """
        return self._client.jobs(query)

    def check_resume(
        self, on_progress: Callable[[ResumeProgress], None] | None = None
    ) -> AsyncGenerator[ResumeProblem]:
        """Find the live jobs that wouldn't go on with the code at hand: `async for problem in app.check_resume()`.

        Every live job's metadata, execution metadata and unread events are decoded and, where older code has written
        them, upgraded, as a worker of this app would do. Nothing is written. They are read page by page, each in a
        transaction of its own. Results of steps aren't looked at: their types are known to the handler alone.

        Args:
            on_progress: Is told how far the check is, once a page.
        """
        return self._client.check_resume(on_progress)

    async def history(self, job_id: int) -> list[AttemptRecord[Any]]:
        """Read the attempts of a job by number, the newest 100 of them; one that runs is the last.

        Raises:
            JobNotFoundError: There is no job of this id.
        """
        return await self._client.history(job_id)

    async def unread_events(self, job_id: int) -> int:
        """Count the events that were sent to a job and that it hasn't consumed."""
        return await self._client.unread_events(job_id)
