"""I4 to I6: who may write, what checkpoints say, how often effects are had.

Of a job's checkpoint they know: `writer`, the attempt that has written it; `at`, `rows` and `effects`, which only grow;
and `seen`, the keys of the events that it has used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from perdure import JobState
from tests.support.history.checks.lives import lives

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.history.checks.lives import Life
    from tests.support.history.values import EffectRow, History, Image, Move

__all__ = [
    "checkpoints_go_on",
    "effects_outside",
    "only_the_holder_writes",
    "rows_commit_with_checkpoints",
    "steps_once",
]

_GROWING = ("at", "rows", "effects")


def only_the_holder_writes(history: History) -> Iterator[str]:
    """I4: numbers grow; what is written to a running job is of the attempt that has it; a refused one is lost."""
    for job, moves in history.moves.items():
        for move in moves:
            yield from _numbers(job, move)
            yield from _foreign(job, move)
            yield from _refused(history, job, move)
    for (job, attempt), lines in history.began.items():
        if len(lines) > 1:
            yield f"attempt {attempt} of job {job} has begun {len(lines)} times"


def checkpoints_go_on(history: History) -> Iterator[str]:
    """I5: a job's checkpoint, and its number, never go back."""
    for job, moves in history.moves.items():
        for before, after in moves:
            if before is not None and after is not None and after.checkpoint < before.checkpoint:
                yield f"job {job}: checkpoint {after.checkpoint} follows {before.checkpoint}"
        for life in lives(moves):
            for before, after in life.moves:
                if before is not None and after is not None:
                    yield from _backward(job, before, after)


def rows_commit_with_checkpoints(history: History) -> Iterator[str]:
    """I5: each row of `ctx.transaction()` is there once, committed by the transaction whose checkpoint counts it."""
    rows: dict[int, list[EffectRow]] = defaultdict(list)
    for row in history.effects:
        rows[row.job].append(row)
    for job, moves in history.moves.items():
        expected = Counter(
            (after.transaction, number)
            for before, after in moves
            if after is not None and before is not None
            for number in range(_count(before, "rows"), _count(after, "rows"))
        )
        found = Counter((row.transaction, row.number) for row in rows.pop(job, []))
        for transaction, number in found - expected:
            yield f"job {job}: row {number} was committed by transaction {transaction}, without its checkpoint"
        for transaction, number in expected - found:
            yield f"job {job}: the checkpoint of transaction {transaction} counts row {number}, which isn't there"
    yield from (f"job {job} has {len(left)} rows and never was" for job, left in rows.items())


def effects_outside(history: History) -> Iterator[str]:
    """I6: an effect outside of transactions that a checkpoint counts was had, and at most once in an attempt."""
    for job, moves in history.moves.items():
        lines = history.outside.get(job, [])
        for (attempt, number), times in Counter((line.attempt, line.number) for line in lines).items():
            if times > 1:
                yield f"job {job}: effect {number} was had {times} times in attempt {attempt}"
        for life, until in _with_ends(lives(moves)):
            had = {line.number for line in lines if life.after_attempt < line.attempt <= until}
            counted = 0 if life.last is None else _count(life.last, "effects")
            for number in sorted(set(range(counted)) - had):
                yield f"job {job}: its checkpoint counts effect {number}, which nobody has had"


def steps_once(history: History) -> Iterator[str]:
    """I5: once a step's result is stored, every later attempt gets it, and none calls the function again."""
    for job, moves in history.moves.items():
        returned, calls = history.stepped.get(job, []), history.called.get(job, [])
        for life, until in _with_ends(lives(moves)):
            stored: dict[str, tuple[int, int]] = {}
            for line in sorted(returned, key=lambda line: line.attempt):
                if life.after_attempt < line.attempt <= until:
                    attempt, by = stored.setdefault(line.key, (line.attempt, line.by))
                    if line.by != by:
                        yield (
                            f"job {job}: step {line.key!r} gave what attempt {by} had stored to attempt {attempt}, "
                            f"and what attempt {line.by} had to attempt {line.attempt}"
                        )
            for call in calls:
                if call.key in stored and stored[call.key][0] < call.attempt <= until:
                    yield f"job {job}: step {call.key!r} was stored, and is called again in attempt {call.attempt}"


def _numbers(job: int, move: Move) -> Iterator[str]:
    before, after = move
    if before is None or after is None:
        return
    claims, attempts = after.claim - before.claim, after.attempt - before.attempt
    if after.state is JobState.RUNNING and (before.state is not JobState.RUNNING or claims):
        if before.state is JobState.RUNNING:
            yield f"job {job} was claimed from under claim {before.claim}"
        if (claims, attempts) != (1, 1):
            yield (
                f"job {job}: with a claim, claim {before.claim} became {after.claim}, "
                f"attempt {before.attempt} became {after.attempt}"
            )
        return
    put_back = before.state is JobState.RUNNING and after.state is JobState.PENDING
    if claims or attempts not in ({0, -1} if put_back and after.checkpoint == before.checkpoint else {0}):
        yield (
            f"job {job}, {before.state} to {after.state}: claim {before.claim} became {after.claim}, "
            f"attempt {before.attempt} became {after.attempt}"
        )


def _foreign(job: int, move: Move) -> Iterator[str]:
    """Find writes of one attempt that have landed in another."""
    before, after = move
    if before is None or after is None or before.state is not JobState.RUNNING:
        return
    if after.place != before.place and after.place.get("writer", 0) != before.attempt:
        yield (
            f"job {job}: a checkpoint of attempt {after.place.get('writer', 0)} was written "
            f"while attempt {before.attempt} had it"
        )
    if after.state is JobState.COMPLETED and after.outcome != after.attempt:
        yield f"job {job} has the result of attempt {after.outcome} in attempt {after.attempt}"
    if after.state is JobState.RUNNING and after.worker != before.worker:
        yield f"job {job} went from worker {before.worker} to {after.worker} in the midst of attempt {before.attempt}"


def _refused(history: History, job: int, move: Move) -> Iterator[str]:
    before, after = move
    if before is None or after is None or before.state is not JobState.RUNNING or after.state is JobState.RUNNING:
        return
    ends = history.ended.get((job, before.attempt), [])
    if not any(line.how == "refused" for line in ends):
        return
    # It may be given back as it was stored: by whoever holds its lease all the same, since the database's clock was
    # ahead for a moment only. What that must leave as it is, `counts` checks.
    given_back = after.state is JobState.PENDING and after.checkpoint == before.checkpoint
    if after.live and not (move.is_rescue or given_back) and after.attempt == before.attempt:
        yield f"attempt {before.attempt} of job {job} was told that its lease is lost, and then wrote {after.state}"


def _backward(job: int, before: Image, after: Image) -> Iterator[str]:
    for name in _GROWING:
        if _count(after, name) < _count(before, name):
            yield (
                f"job {job}: `{name}` went from {_count(before, name)} back to {_count(after, name)} "
                f"({before.state} to {after.state}, attempt {after.attempt})"
            )
    had, has = before.place.get("seen", []), after.place.get("seen", [])
    if has[: len(had)] != had:
        yield f"job {job}: the events {had} that it had used became {has}"


def _with_ends(found: Sequence[Life]) -> Iterator[tuple[Life, float]]:
    ends = [life.after_attempt for life in found[1:]]
    return zip(found, [*ends, float("inf")], strict=True)


def _count(image: Image, name: str) -> int:
    return int(image.place.get(name, 0))
