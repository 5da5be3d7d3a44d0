"""The verbs that need a task's types: by the code of an app, or unchecked, with any JSON."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from perdure.answers import JobNotFound
from perdure.app import App
from perdure.cli.errors import Failure
from perdure.cli.jobs.merging import merged
from perdure.cli.jobs.tasks import decoded, stand_in, task_named
from perdure.errors import JobNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from perdure.answers import ProceedAnswer, RetryAnswer, SendAnswer
    from perdure.core.codec import Codec
    from perdure.job import Job

__all__ = ["Code", "Known", "Unchecked"]


class Code:
    """Asks for one job at a time, in an open app.

    Attributes:
        app: The app.
    """

    def __init__(self, app: App) -> None:
        """Ask this app."""
        self.app = app

    async def proceed(self, job_id: int, patch: Any, *, at: datetime | timedelta | None) -> ProceedAnswer:
        """Let a job go on, with its execution metadata merged with a patch."""
        if (job := await self._read(job_id)) is None:
            return JobNotFound()
        async with await self._app_for(job, has_checkpoint=True) as app:
            task = app.tasks.get(job.name)
            # Of a task that the app doesn't have, the library says so.
            return await app.proceed(job_id, _merging(patch, None if task is None else task.execution_metadata), at=at)

    async def send(self, job_id: int, event: bytes) -> SendAnswer:
        """Send a job an event."""
        if (job := await self._read(job_id)) is None:
            return JobNotFound()
        async with await self._app_for(job, has_checkpoint=True) as app:
            task = task_named(app, job.name)
            if task.events is None:
                message = f"job {job_id}: the task {job.name!r} takes no events"
                raise Failure(message)
            return await task.send(job_id, decoded(task.events, event, f"EVENT of {job.name}"))

    async def retry(self, job_id: int, checkpoint: bytes | None) -> RetryAnswer:
        """Let a job begin afresh, at a checkpoint, or where its type begins."""
        if (job := await self._read(job_id)) is None:
            return JobNotFound()
        has_checkpoint = checkpoint is not None and json.loads(checkpoint) is not None
        async with await self._app_for(job, has_checkpoint=has_checkpoint) as app:
            value = None
            if checkpoint is not None:
                codec = task_named(app, job.name).execution_metadata
                value = decoded(codec, checkpoint, f"--execution-metadata of {job.name}")
            return await app.retry(job_id, afresh=True, execution_metadata=value)

    async def _read(self, job_id: int) -> Job[Any, Any, Any, Any] | None:
        try:
            return await self.app.job(job_id)
        except JobNotFoundError:
            return None

    @abstractmethod
    async def _app_for(self, job: Job[Any, Any, Any, Any], *, has_checkpoint: bool) -> App:
        """Return an app that has the job's task, to be opened."""
        raise NotImplementedError


class Known(Code):
    """By the app's own code."""

    async def _app_for(self, job: Job[Any, Any, Any, Any], *, has_checkpoint: bool) -> App:  # noqa: ARG002 - it knows
        return self.app


class Unchecked(Code):
    """Without the code: any JSON is right, and nothing is made of it."""

    async def _app_for(self, job: Job[Any, Any, Any, Any], *, has_checkpoint: bool) -> App:
        # An app for each job: two may be of one task and of different versions of it.
        config = self.app.config
        app = App(self.app.dsn, persistence=config.persistence, execution=config.execution)
        stand_in(app, job.name, version=job.version, has_checkpoint=has_checkpoint)
        return app


def _merging(patch: Any, codec: Codec[Any] | None) -> Callable[[Any], Any]:
    """Make the modification that merges with a patch, and refuses what the type doesn't know."""

    def modification(value: Any) -> Any:
        assert codec is not None  # noqa: S101 - it isn't called for a task that the app doesn't have
        wanted = merged(json.loads(codec.encode(value, what="execution metadata", limit=None)), patch)
        data = json.dumps(wanted).encode()
        changed = codec.decode(data, what="--merge")
        codec.check_keys(data, what="--merge")
        return changed

    return modification
