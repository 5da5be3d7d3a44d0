"""A history: all that was written down of a run, by whom it concerned, and what the database says at its end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.history.lines import Answered, Asked, Began, Called, Calmed, Effect, Ended, Fault, Pulsed, Stepped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perdure import JobState
    from tests.support.history.lines import Line

__all__ = [
    "Call",
    "EffectRow",
    "Event",
    "History",
    "Image",
    "LeaseImage",
    "Move",
    "Row",
    "Rules",
    "Session",
    "Worker",
]


# How often a worker sweeps that knows of no lease which ends sooner; and how long something takes on a machine that
# isn't slow, with what is waited for then: a scan that rests, the end of another look.
_SWEEP_SECONDS = 2.5
_MOMENT_SECONDS = 1.0


@dataclass(frozen=True)
class Rules:
    """The settings that the run was made with, as far as the checkers ask for them.

    Attributes:
        scheduler_retry_count: Retries of level 1.
        max_retry_count: Retries of level 2.
        max_lapses: The lapse in a row that fails a job.
        recovery_seconds: How long a lost worker's jobs may stay its own once its lease has ended, where another serves
            (a sweep, and a moment); None: not asked. What is added for a slow machine, `checks.times` says.
        claim_seconds: How long a due job may wait where a worker has room for it (a poll, and a moment); None: not
            asked.
        is_weathered: Whether connections suffer from what isn't noted, while the load lasts.
    """

    scheduler_retry_count: int = 2
    max_retry_count: int = 1
    max_lapses: int = 3
    recovery_seconds: float | None = None
    claim_seconds: float | None = None
    is_weathered: bool = False

    def timed(self, polling_seconds: float) -> Rules:
        """Return the same with the times that are promised to who polls so often."""
        claim_seconds = polling_seconds + _MOMENT_SECONDS
        return replace(self, recovery_seconds=_SWEEP_SECONDS + claim_seconds, claim_seconds=claim_seconds)


class Image(NamedTuple):
    """A job's row as a write has left it (or found it, when it was removed), by the transition log.

    Attributes:
        number: Its place in the log. Of one job's images, the order is that of the commits.
        at: When, by the database's clock, in seconds since the epoch.
        transaction: The id of its transaction.
        who: The `application_name` of the connection.
        removed: Whether the row was taken from its table.
        live: Whether its table is `jobs`, and not `finished_jobs`.
        rescued: Whether the write ended the attempt of a lost worker.
        place: The execution metadata.
        outcome: Of an ended job, its result; None without one.
        error: The stored error.
        due: When it is due, in seconds since the epoch; None: at no time.
    """

    number: int
    at: float
    transaction: int
    who: str
    removed: bool
    live: bool
    job: int
    task: str
    state: JobState
    attempt: int
    claim: int
    checkpoint: int
    worker: str | None
    retry_number: int
    scheduler_retries: int
    lapses: int
    rescued: bool
    proceed_requested: bool
    cancel_requested: bool
    asleep: bool
    woken_by: int
    due: float | None
    place: Any
    outcome: Any
    error: Any


class Move(NamedTuple):
    """One write to one job: its image before and after. None: there was no row, or there is none any more."""

    before: Image | None
    after: Image | None

    @property
    def states(self) -> tuple[JobState | None, JobState | None]:
        """The states before and after."""
        return (self.before and self.before.state, self.after and self.after.state)

    @property
    def is_rescue(self) -> bool:
        """Whether it returns a lost worker's job to the queue."""
        before, after = self
        if before is None or after is None or before.worker is None:
            return False
        return after.live and after.worker is None and after.rescued


class Row(NamedTuple):
    """A job as its table has it at the end.

    Attributes:
        key: What its client has called it; None of rows that no client has started.
    """

    job: int
    key: str | None
    live: bool
    task: str
    state: JobState
    attempt: int
    retry_number: int
    scheduler_retries: int
    proceed_requested: bool
    asleep: bool
    due: float | None
    place: Any
    last_error: str | None


class EffectRow(NamedTuple):
    """A row that a handler has written inside `ctx.transaction()`.

    Attributes:
        number: Which of the job's it is, from 0.
        event: The event that it was written for, if it was for one.
        transaction: The id of the transaction that has committed it.
    """

    job: int
    number: int
    attempt: int
    event: str | None
    transaction: int


class Event(NamedTuple):
    """An event that isn't consumed."""

    job: int
    key: str
    woke: bool


class Worker(NamedTuple):
    """A worker's registration: its id and process."""

    worker: str
    pid: int
    at: float


class LeaseImage(NamedTuple):
    """A worker's lease as a write has left it: when it was granted, at each renewal, and when it ended.

    Attributes:
        worker: The worker's id.
        at: When it was written, by the database's clock, in seconds since the epoch.
        until: Until when it lasts.
        seconds: For how long it is granted each time.
        concurrency: How many jobs the worker runs at once.
        is_choosy: Whether it serves some queues only.
        has_ended: Whether the worker has given it back, or somebody has found it lapsed.
    """

    worker: str
    at: float
    until: float
    seconds: float
    concurrency: int
    is_choosy: bool
    has_ended: bool


class Session(NamedTuple):
    """A connection to the database, or a lease, that is there when all workers have ended.

    Attributes:
        who: Its `application_name`, or "lease of …".
        state: What it does.
    """

    who: str
    state: str


@dataclass(frozen=True)
class Call:
    """What a client has asked for, and the answer, if there was one."""

    client: str
    verb: str
    keys: tuple[str, ...]
    jobs: tuple[int, ...]
    answer: str | None
    at: float
    answered_at: float | None = None


@dataclass(frozen=True)
class History:
    """A run.

    Attributes:
        lines: What was written down, by file.
        images: The transition log, in its order.
        effects: Rows written inside of transactions.
        workers: Who has registered.
        rows: The jobs at the end.
        unread: The events at the end.
        leases: What became of the workers' leases, in its order.
        orders: Keys that clients have stored in the transactions in which they started a job of that key.
        sessions: What is left of the workers once all have ended.
        ended_at: When the rows were read, by the database's clock.
        rules: The settings.
    """

    lines: Mapping[str, Sequence[Line]] = field(default_factory=dict)
    images: Sequence[Image] = ()
    effects: Sequence[EffectRow] = ()
    workers: Sequence[Worker] = ()
    rows: Sequence[Row] = ()
    unread: Sequence[Event] = ()
    leases: Sequence[LeaseImage] = ()
    orders: Sequence[str] = ()
    sessions: Sequence[Session] = ()
    ended_at: float = 0.0
    rules: Rules = field(default_factory=Rules)

    @cached_property
    def calls(self) -> list[Call]:
        """The clients' calls; of each client in its order."""
        calls: list[Call] = []
        for client, lines in self.lines.items():
            answers = {line.call: line for line in lines if isinstance(line, Answered)}
            calls += [_call(client, line, answers.get(line.call)) for line in lines if isinstance(line, Asked)]
        return calls

    @cached_property
    def moves(self) -> dict[int, list[Move]]:
        """All writes to each job, in their order."""
        moves: dict[int, list[Move]] = defaultdict(list)
        for image in self.images:
            _add(moves[image.job], image)
        return dict(moves)

    @cached_property
    def began(self) -> dict[tuple[int, int], list[Began]]:
        """Handlers' beginnings, by job and attempt."""
        return _by_attempt(line for line in self._all if isinstance(line, Began))

    @cached_property
    def ended(self) -> dict[tuple[int, int], list[Ended]]:
        """Handlers' ends, by job and attempt."""
        return _by_attempt(line for line in self._all if isinstance(line, Ended))

    @cached_property
    def outside(self) -> dict[int, list[Effect]]:
        """Effects outside of transactions, by job."""
        return _by_job(line for line in self._all if isinstance(line, Effect))

    @cached_property
    def called(self) -> dict[int, list[Called]]:
        """Calls of steps' functions, by job."""
        return _by_job(line for line in self._all if isinstance(line, Called))

    @cached_property
    def stepped(self) -> dict[int, list[Stepped]]:
        """Steps that have returned, by job."""
        return _by_job(line for line in self._all if isinstance(line, Stepped))

    @cached_property
    def faults(self) -> list[Fault]:
        """What was done to processes."""
        return [line for line in self._all if isinstance(line, Fault)]

    @cached_property
    def pulses(self) -> list[Pulsed]:
        """How fast the machine was."""
        return [line for line in self._all if isinstance(line, Pulsed)]

    @cached_property
    def calmed_at(self) -> float | None:
        """Since when nothing is done to connections any more; None: that isn't noted."""
        return max((line.at for line in self._all if isinstance(line, Calmed)), default=None)

    @cached_property
    def pid_of(self) -> dict[str, int]:
        """The process of each worker id."""
        return {worker.worker: worker.pid for worker in self.workers}

    def suffered(self, pid: int | None, until: float = inf) -> set[str]:
        """Return the kinds of faults that were done to a process, until a time."""
        return {fault.kind for fault in self._faults_of.get(pid, ()) if fault.at <= until}

    @cached_property
    def _faults_of(self) -> dict[int | None, list[Fault]]:
        faults: dict[int | None, list[Fault]] = defaultdict(list)
        for fault in self.faults:
            faults[fault.pid].append(fault)
        return faults

    @cached_property
    def _all(self) -> list[Line]:
        return sorted((line for lines in self.lines.values() for line in lines), key=lambda line: line.at)


def _call(client: str, asked: Asked, answered: Answered | None) -> Call:
    jobs = asked.jobs if answered is None else answered.jobs or asked.jobs
    answer, at = (None, None) if answered is None else (answered.answer, answered.at)
    return Call(client, asked.verb, asked.keys, jobs, answer, asked.at, at)


def _add(moves: list[Move], image: Image) -> None:
    last = moves[-1].after if moves else None
    if image.removed:
        moves.append(Move(image, None))
    elif last is None and moves and moves[-1].before is not None and moves[-1].before.transaction == image.transaction:
        # Taken from one table and stored in the other, in one transaction: that is one move.
        moves[-1] = Move(moves[-1].before, image)
    else:
        moves.append(Move(last, image))


def _by_attempt(lines: Any) -> dict[tuple[int, int], list[Any]]:
    found: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for line in lines:
        found[line.job, line.attempt].append(line)
    return dict(found)


def _by_job(lines: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for line in lines:
        found[line.job].append(line)
    return dict(found)
