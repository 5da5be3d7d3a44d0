"""The answers of the verbs that may find a job in another state than the caller thought: values, to be matched.

An answer is never an exception: what a job is just then is not the caller's mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from perdure.job import Job

__all__ = [
    "CancelAnswer",
    "CancelRequested",
    "JobEnded",
    "JobNotFound",
    "ModificationFailed",
    "MultipleJobsFound",
    "NotFinal",
    "NotSuspended",
    "ProceedAnswer",
    "ProceedAnswerOf",
    "Proceeded",
    "Retried",
    "RetryAnswer",
    "SendAnswer",
    "Sent",
]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Proceeded(Generic[M, X, R, E]):
    """The job goes on; a running one does so as soon as it suspends.

    Attributes:
        job: The job as it is now.
    """

    job: Job[M, X, R, E]


@dataclass(frozen=True, slots=True)
class NotSuspended(Generic[M, X, R, E]):
    """The job doesn't wait to be let go on; nothing was changed.

    Attributes:
        job: The job; its `state` is the state that it was in: `suspended` if it is in a `ctx.sleep()`.
    """

    job: Job[M, X, R, E]


@dataclass(frozen=True, slots=True)
class JobNotFound:
    """There is no such job (any more)."""


@dataclass(frozen=True, slots=True)
class JobEnded(Generic[M, X, R, E]):
    """The job has ended before; nothing was changed.

    Attributes:
        job: The job; its `state` is the final one.
    """

    job: Job[M, X, R, E]


@dataclass(frozen=True, slots=True)
class CancelRequested(Generic[M, X, R, E]):
    """The job is cancelled; one that was running will be, when its attempt ends.

    Attributes:
        job: The job as it is now.
    """

    job: Job[M, X, R, E]


@dataclass(frozen=True, slots=True)
class MultipleJobsFound(Generic[M, X, R, E]):
    """The query finds more than one job; nothing was changed.

    Attributes:
        jobs: The jobs by id: the first 100, if there are more.
    """

    jobs: list[Job[M, X, R, E]]


@dataclass(frozen=True, slots=True)
class ModificationFailed:
    """The modification raised, returned what can't be stored, or couldn't be tried; nothing was changed.

    Attributes:
        message: What happened.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The event is stored; with `connection=`, once the caller's transaction is committed.

    Attributes:
        job_id: The job that it was sent to.
    """

    job_id: int


@dataclass(frozen=True, slots=True)
class Retried(Generic[M, X, R, E]):
    """The ended job is pending again.

    Attributes:
        job: The job as it is now.
    """

    job: Job[M, X, R, E]


@dataclass(frozen=True, slots=True)
class NotFinal(Generic[M, X, R, E]):
    """The job hasn't ended, so there is nothing to retry; nothing was changed.

    Attributes:
        job: The job; its `state` is the state that it was in.
    """

    job: Job[M, X, R, E]


ProceedAnswerOf = (
    Proceeded[M, X, R, E] | JobNotFound | MultipleJobsFound[M, X, R, E] | NotSuspended[M, X, R, E] | ModificationFailed
)
"""The five answers of a proceed, of a task with these types."""

ProceedAnswer = ProceedAnswerOf[Any, Any, Any, Any]
SendAnswer = Sent | JobNotFound | JobEnded[Any, Any, Any, Any] | MultipleJobsFound[Any, Any, Any, Any]
CancelAnswer = CancelRequested[Any, Any, Any, Any] | JobNotFound | JobEnded[Any, Any, Any, Any]
RetryAnswer = Retried[Any, Any, Any, Any] | JobNotFound | NotFinal[Any, Any, Any, Any]
