"""Stories of one job, told write by write: of them the checkers' tests make histories, good ones and broken ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure import JobState
from tests.support.history.checks import violations
from tests.support.history.lines import Answered, Asked, Began, Ended, Fault
from tests.support.history.values import EffectRow, Event, History, Image, LeaseImage, Row, Rules, Session, Worker

if TYPE_CHECKING:
    from tests.support.history.lines import Line

__all__ = ["FIRST", "Story", "completed", "row_of", "running", "started"]

RULES = Rules(scheduler_retry_count=2, max_retry_count=1, max_lapses=3).timed(0.1)

P, R, C = JobState.PENDING, JobState.RUNNING, JobState.COMPLETED


class Story:
    """The making of a history: one job, unless it is told otherwise. A second goes by with each write."""

    def __init__(self) -> None:
        self.client: list[Line] = []
        self.handler: list[Line] = []
        self.faults: list[Line] = []
        self.images: list[Image] = []
        self.effects: list[EffectRow] = []
        self.leases: list[LeaseImage] = []
        self.events: list[Event] = []
        self.orders: list[str] = []
        self.rows: list[Row] = []
        self.sessions: list[Session] = []
        self._last: Image | None = None
        self._calls = 0

    def asks(self, verb: str, answer: str | None, *keys: str, jobs: tuple[int, ...] = (1,)) -> None:
        """A client asks for something, and has an answer, or none: around the next write, if there is one."""
        self._calls += 1
        started, now = verb.startswith("start"), len(self.images)
        self.client.append(Asked(self._calls, verb, keys, () if started else jobs, at=now - 0.5))
        if answer is not None:
            self.client.append(Answered(self._calls, answer, jobs if started else (), at=now + 0.5))

    def lease(self, worker: str, *, since: float = 0.0, until: float = 1000.0, concurrency: int = 10) -> None:
        """A worker has a lease of three seconds, and renews it each second; it isn't seen any more from then on."""
        seconds = range(int(since), int(until) + 1)
        self.leases += [LeaseImage(worker, at, at + 3.0, 3.0, concurrency, False, False) for at in map(float, seconds)]

    def suffers(self, kind: str, pid: int | None = 10, *, at: float | None = None) -> None:
        """Something is done to a process, by default just before the next write."""
        self.faults.append(Fault(kind, pid, at=len(self.images) - 0.5 if at is None else at))

    def write(self, state: JobState, *, moved: bool = False, **changes: Any) -> None:
        """A write to the job: its row is as the last one, with changes. `moved`: from one table to the other."""
        number = len(self.images)
        last = self._last or FIRST
        transaction = changes.pop("transaction", number)
        if moved:
            self.images.append(last._replace(number=number, transaction=transaction, removed=True))
            changes.setdefault("live", not last.live)
            changes.setdefault("worker", last.worker)
        changes = {"at": float(number), "rescued": False, **changes}
        self._last = last._replace(number=number, transaction=transaction, state=state, **changes)
        self.images.append(self._last)

    def claim(self, **changes: Any) -> None:
        """A worker claims it, and its handler begins."""
        last = self._last or FIRST
        changes = {"worker": "w1", "claim": last.claim + 1, "attempt": last.attempt + 1, **changes}
        self.write(R, **changes)
        self.handler.append(Began(1, changes["attempt"], 10))

    def persist(self, **place: Any) -> None:
        """The attempt writes a checkpoint."""
        last = self._last or FIRST
        self.write(R, checkpoint=last.checkpoint + 1, place={**last.place, "writer": last.attempt, **place})

    def row(self, event: str | None = None, **place: Any) -> None:
        """The attempt writes a row together with a checkpoint."""
        last = self._last or FIRST
        number = last.place.get("rows", 0)
        self.effects.append(EffectRow(1, number, last.attempt, event, len(self.images)))
        self.persist(rows=number + 1, **place)

    def ends(self, how: str, state: JobState, **changes: Any) -> None:
        """The handler ends, and what becomes of the job is written."""
        last = self._last or FIRST
        self.handler.append(Ended(1, last.attempt, how))
        if state.is_final:
            self.write(state, moved=True, outcome=last.attempt if state is C else None, **changes)
        else:
            self.write(state, **{"worker": None, **changes})

    def assert_breaks(self, invariant: str, words: str) -> None:
        """Make sure that the checkers find it, and say so with these words."""
        found = violations(self.history())
        assert any(wrong.startswith(f"{invariant}: ") and words in wrong for wrong in found), found

    def history(self, rules: Rules = RULES) -> History:
        """What all that makes; with the job's row as it was written last."""
        last = self._last
        rows = list(self.rows)
        if last is not None:
            rows.append(row_of(last))
        return History(
            lines={"client": self.client, "handler": self.handler, "faults": self.faults},
            images=self.images,
            effects=self.effects,
            workers=[Worker("w1", 10, 0.0), Worker("w2", 20, 0.0)],
            rows=rows,
            unread=self.events,
            orders=self.orders,
            leases=self.leases,
            sessions=self.sessions,
            ended_at=1000.0,
            rules=rules,
        )


FIRST = Image(
    number=0, at=0.0, transaction=0, who="perdure worker", removed=False, live=True, job=1, task="plan", state=P,
    attempt=0, claim=0, checkpoint=0, worker=None, retry_number=0, scheduler_retries=0, lapses=0, rescued=False,
    proceed_requested=False, cancel_requested=False, asleep=False, woken_by=0, due=5.0, place={}, outcome=None,
    error=None,
)  # fmt: skip


def row_of(image: Image, key: str | None = "a") -> Row:
    """Return the row that an image is of."""
    counts = (image.attempt, image.retry_number, image.scheduler_retries)
    flags = (image.proceed_requested, image.asleep, image.due)
    return Row(image.job, key, image.live, image.task, image.state, *counts, *flags, image.place, None)


def started() -> Story:
    """A job that was started."""
    story = Story()
    story.asks("start", "Started", "a")
    story.write(P)
    return story


def running() -> Story:
    """A job whose first attempt has begun."""
    story = started()
    story.claim()
    return story


def completed() -> Story:
    """A job that has completed at its first attempt."""
    story = running()
    story.ends("returns", C)
    return story
