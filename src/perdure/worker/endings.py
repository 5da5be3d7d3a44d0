"""From what a handler did to a verdict: payloads are encoded here, rules are asked of `decide`."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import traceback
from typing import TYPE_CHECKING, Any, cast

from perdure.attempt import StopReason
from perdure.core.decide import (
    FRESH,
    Cancel,
    Deadline,
    Fail,
    Limits,
    Raise,
    Returned,
    Shutdown,
    Snapshot,
    Suspend,
    UserCancel,
    scheduler_retries_spent,
)
from perdure.core.failure import Raised, encode_declared, encode_raised
from perdure.core.retry import RetryPolicy
from perdure.errors import DeadlineExceeded, JobTimeout, MisuseError, PayloadError, PayloadUndecodable
from perdure.outcome import Cancelled, Completed, Failed, Suspended
from perdure.steps import Asleep
from perdure.worker.retrying import judge, policy_of
from perdure.worker.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from perdure.attempt import Attempt
    from perdure.config import Config
    from perdure.core.decide import Ending
    from perdure.store.claims import Claimed
    from perdure.task import Task

__all__ = ["OUTCOMES", "AnyOutcome", "Rules"]
__all__ += ["deadline_exceeded", "describe", "is_cancellation", "is_refused", "meant", "one_line"]

AnyOutcome = Completed[Any] | Suspended[Any] | Failed[Any] | Cancelled[Any]
"""What a handler may return to say more than a value."""

_log = logging.getLogger("perdure.worker")

OUTCOMES = frozenset({Completed, Suspended, Failed, Cancelled})
_LONGEST_LINE = 500
_LONGEST_MESSAGE = 4_000
_LONGEST_TRACEBACK = 16_000


def one_line(text: str) -> bytes:
    """Make a text fit `last_error`: one line, bounded, and nothing that a text column refuses."""
    line = " ".join(text.replace("\0", "\ufffd").split())
    if len(line) > _LONGEST_LINE:
        line = line[: _LONGEST_LINE - 1] + "…"
    return line.encode("utf-8", "replace")


def deadline_exceeded(deadline: timedelta | None = None) -> DeadlineExceeded:
    """Return the error of a job that is past its deadline; None: only the job knows it, the code at hand has none."""
    named = "its deadline" if deadline is None else f"its deadline of {deadline}"
    return DeadlineExceeded(f"the job wasn't done within {named}, counted from when it was first due")


def meant(attempt: Attempt, error: BaseException) -> BaseException:
    """Return what a handler's exception stands for, when it is a group of nothing but sleeps and unread payloads.

    So it is in a task group in which one sleeps. Of several sleeps the first to end counts: the handler is called anew
    then, and comes to the others again.
    """
    leaves = list(_leaves(error))
    sleeps = [leaf for leaf in leaves if isinstance(leaf, Asleep)]
    unread = [leaf for leaf in leaves if isinstance(leaf, PayloadUndecodable)]
    if len(sleeps) + len(unread) < len(leaves):
        return error
    if unread:
        return next((leaf for leaf in unread if leaf is attempt.unreadable), error)
    return min(sleeps, key=lambda asleep: asleep.until)


def is_refused(attempt: Attempt, error: BaseException) -> bool:
    """Tell whether a handler's exception is, or holds, what the last transaction has raised for the lease's sake."""
    return attempt.refused is not None and any(leaf is attempt.refused for leaf in _leaves(error))


def is_cancellation(error: BaseException) -> bool:
    """Tell whether a handler's exception is a cancellation, or a group of nothing else."""
    return all(isinstance(leaf, asyncio.CancelledError) for leaf in _leaves(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error


class Rules:
    """Makes verdicts, by the app's configuration and what each task overrides."""

    def __init__(self, config: Config, *, chance: Callable[[], float] = random.random) -> None:
        """Read the settings; `chance` draws a number from 0 to 1 for each wait with jitter."""
        scheduling, execution = config.scheduling, config.execution
        self.max_payload_bytes = execution.max_payload_bytes
        self.max_lapses = execution.max_lapses
        policy = RetryPolicy(
            scheduling.scheduler_retry_count, tuple(scheduling.scheduler_retry_delays), execution.max_retry_count
        )
        self._limits_of_any = Limits(policy, self.max_lapses)
        self._limits: dict[str, Limits] = {}
        self._chance = chance

    def is_suspect(self, job: Claimed) -> bool:
        """Whether one more lapse would fail this job."""
        return job.lapses >= max(self.max_lapses - 1, 1)

    def outcome(self, attempt: Attempt, outcome: AnyOutcome) -> Verdict:
        """Judge an outcome that a handler has returned.

        Raises:
            PayloadRefused: Its payload or the execution metadata can't be stored.
            MisuseError: It carries a state. A machine has taken that out of it by now; no other task has states.
        """
        state: object = outcome.state
        if state is not None:
            message = (
                f"task {attempt.task.name!r} returned {type(outcome).__name__}(…, state={_repr(state)}), but "
                "only a StateMachine has states: keep it in the execution metadata"
            )
            raise MisuseError(message)
        match outcome:
            case Completed():
                return self.returned(attempt, outcome.result)
            case Suspended():
                return self._verdict(attempt, Suspend(outcome.until))
            case Failed():
                error, line = self._declared(attempt, outcome.error)
                ending = Fail(retry=outcome.retry, retry_after_seconds=outcome.retry_after_seconds)
                return self._verdict(attempt, ending, error=error, last_error=line)
            case Cancelled():
                error, line = self._declared(attempt, outcome.error)
                return self._verdict(attempt, Cancel(), error=error, last_error=line)

    def returned(self, attempt: Attempt, value: Any) -> Verdict:
        """Judge a value that a handler has returned.

        Raises:
            PayloadRefused: It or the execution metadata can't be stored.
        """
        result = attempt.task.result.encode(value, what="result", limit=self.max_payload_bytes)
        return self._verdict(attempt, Returned(), result=result)

    def raised(self, attempt: Attempt, error: BaseException) -> Verdict:
        """Judge an exception; what the attempt changed since its last persist is dropped."""
        return self._broken_off(attempt, self._raise(attempt, error), error)

    def stopped(
        self, attempt: Attempt, reason: StopReason, error: BaseException | None = None, *, keep_checkpoint: bool
    ) -> Verdict:
        """Judge an attempt that was stopped from outside; what can't be stored of its checkpoint is dropped.

        Args:
            attempt: The attempt.
            reason: Why it was stopped.
            error: With what its handler ended, if it did; where it stood, that tells of a time-out or a deadline.
            keep_checkpoint: Whether its execution metadata is kept as it stands, where the reason allows that.
        """
        match reason:
            case StopReason.TIMEOUT:
                timed_out = JobTimeout(f"the attempt ran past its timeout of {attempt.task.options.timeout}")
                timed_out.__cause__ = error
                return dataclasses.replace(self.raised(attempt, timed_out), timed_out=True)
            case StopReason.DEADLINE:
                exceeded = deadline_exceeded(attempt.task.options.deadline)
                exceeded.__cause__ = error
                return self._broken_off(attempt, Deadline(), exceeded)
            case StopReason.CANCEL:
                ending: Ending = UserCancel()
            case _:
                ending = Shutdown()
        line = None if error is None or is_cancellation(error) else one_line(str(describe(error)))
        try:
            return self._verdict(attempt, ending, keep_checkpoint=keep_checkpoint, is_stopped=True, last_error=line)
        except PayloadError as refused:
            line = one_line(f"the execution metadata as it stood wasn't kept: {refused}")
            return self._verdict(attempt, ending, keep_checkpoint=False, last_error=line)

    def asleep(self, attempt: Attempt, asleep: Asleep) -> Verdict:
        """Judge an attempt whose handler sleeps: what it began with an event is undone, for it comes by there again.

        Else the event would be gone by then, for a handler that asks for it before it sleeps and uses it afterwards.
        """
        try:
            return self._verdict(attempt, Suspend(asleep.until, asleep=True), is_stopped=True)
        except PayloadError as error:
            return self.raised(attempt, error)

    def _raise(self, attempt: Attempt, error: BaseException) -> Raise:
        """Ask what `decide` can't: chance, and the task's own code. Whatever that raises, the job isn't lost for it."""
        job = attempt.job
        spent = scheduler_retries_spent(self._snapshot(attempt), self.limits(attempt.task))
        try:
            return judge(attempt.task.options, spent + 1, error, self._chance())
        except BaseException as broken:  # noqa: BLE001 - of the user's code
            _log.error(
                "job %d (%s), attempt %d: the task's function for retry= gave no answer (%s), so the configured "
                "scheduler retries count",
                job.id,
                job.task,
                job.attempt,
                type(broken).__name__,
            )
            _log.debug("what it did instead:", exc_info=True)  # may quote the job's payloads
            return Raise()

    def _broken_off(self, attempt: Attempt, ending: Ending, error: BaseException) -> Verdict:
        """Judge an attempt of which only the error is kept."""
        raised = describe(error)
        return self._verdict(
            attempt, ending, keep_checkpoint=False, error=encode_raised(raised), last_error=one_line(str(raised))
        )

    def _declared(self, attempt: Attempt, error: Any) -> tuple[bytes, bytes]:
        payload = attempt.task.error.encode(error, what="error", limit=self.max_payload_bytes)
        return encode_declared(payload), one_line(_repr(error))

    def _verdict(
        self,
        attempt: Attempt,
        ending: Ending,
        *,
        keep_checkpoint: bool = True,
        is_stopped: bool = False,
        result: bytes | None = None,
        error: bytes | None = None,
        last_error: bytes | None = None,
    ) -> Verdict:
        job, execution_metadata = attempt.job, None
        events: tuple[int, ...] = ()
        if keep_checkpoint:
            if is_stopped:
                encoded = attempt.encode_when_stopped()
                execution_metadata = None if encoded == attempt.baseline else encoded
            else:
                execution_metadata, events = attempt.changed_at_end(), attempt.used_at_end()
        return Verdict(
            job.id,
            job.claim,
            attempt.checkpoint,
            self._snapshot(attempt, writes=execution_metadata is not None),
            ending,
            self.limits(attempt.task),
            execution_metadata=execution_metadata,
            result=result,
            error=error,
            last_error=last_error,
            events=events,
            took_events=attempt.took_events or bool(events),
            woken_by=job.woken_by,
        )

    @staticmethod
    def _snapshot(attempt: Attempt, *, writes: bool = False) -> Snapshot:
        """Say what is known of the job's row; `writes`: a new checkpoint is stored with the outcome."""
        job = attempt.job
        if not (job.retry_number or job.scheduler_retries or job.lapses):
            return FRESH
        return Snapshot.of_counts(
            job.retry_number,
            job.scheduler_retries,
            job.lapses,
            progressed=writes or attempt.checkpoint != job.checkpoint,
        )

    def limits(self, task: Task[Any, Any, Any, Any] | None) -> Limits:
        """Return what the settings allow the jobs of a task; without one, what they allow any."""
        if task is None:
            return self._limits_of_any
        limits = self._limits.get(task.name)
        if limits is None:
            policy = policy_of(task.options, self._limits_of_any.policy)
            limits = Limits(policy, self.max_lapses, task.options.progress_resets_retries)
            self._limits[task.name] = limits
        return limits


def _repr(error: object) -> str:
    try:
        return repr(error)
    except Exception as broken:  # noqa: BLE001 - a __repr__ of the user's
        return f"{type(error).__name__} (its repr can't be made: {type(broken).__name__})"


def describe(error: BaseException) -> Raised:
    """Describe an exception as it is stored: bounded, and without what a text column refuses."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, asyncio.CancelledError):
        name = "asyncio.CancelledError"
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - a __str__ of the user's
        message = f"(its message can't be made: {type(broken).__name__})"
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception as broken:  # noqa: BLE001 - an exception of the user's, or one that was made oddly
        lines = f"(its traceback can't be made: {type(broken).__name__})"
    return Raised(_clean(name), _clean(message)[:_LONGEST_MESSAGE], _clean(lines)[-_LONGEST_TRACEBACK:])


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
