"""Durable background jobs on the PostgreSQL that an application already has: typed, checkpointed, exactly once."""

from perdure.answers import CancelRequested, JobEnded, JobNotFound, NotSuspended, Proceeded
from perdure.app import App
from perdure.context import Context
from perdure.core.failure import Raised
from perdure.core.states import JobState
from perdure.errors import JobCancelled, JobFailed, LeaseLost
from perdure.job import Job
from perdure.outcome import Cancelled, Completed, Failed, Suspended
from perdure.query import JobQuery
from perdure.task import BackgroundTask, Task
from perdure.version import __version__

__all__ = [
    "App",
    "BackgroundTask",
    "CancelRequested",
    "Cancelled",
    "Completed",
    "Context",
    "Failed",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobFailed",
    "JobNotFound",
    "JobQuery",
    "JobState",
    "LeaseLost",
    "NotSuspended",
    "Proceeded",
    "Raised",
    "Suspended",
    "Task",
    "__version__",
]
