"""The answers of the verbs that may find a job in another state than the caller thought: values, to be matched.

An answer is never an exception: what a job is just then is not the caller's mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from perdure.job import Job

__all__ = ["CancelAnswer", "CancelRequested", "JobEnded", "JobNotFound", "NotSuspended", "ProceedAnswer", "Proceeded"]

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
        job: The job; its `state` is the state that it was in.
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


ProceedAnswer = Proceeded[Any, Any, Any, Any] | JobNotFound | NotSuspended[Any, Any, Any, Any]
CancelAnswer = CancelRequested[Any, Any, Any, Any] | JobNotFound | JobEnded[Any, Any, Any, Any]
