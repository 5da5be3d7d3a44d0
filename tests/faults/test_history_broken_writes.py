"""The checkers of I1 to I6 find each rule that is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure import JobState
from tests.support.history import CHECKS
from tests.support.history.lines import Began, Called, Effect, Ended, Stepped
from tests.support.history.story import FIRST, Story, completed, row_of, running, started
from tests.support.history.values import EffectRow

if TYPE_CHECKING:
    from collections.abc import Callable

P, R, T, S, G = JobState.PENDING, JobState.RUNNING, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED


def _lost_job(story: Story) -> None:
    story.asks("start", "Started", "b", jobs=(2,))


def _another_job(story: Story) -> None:
    story.asks("start", "Started", "b", jobs=(1,))


def _put_nowhere(story: Story) -> None:
    story.write(P)
    story.images.append(story.images[-1]._replace(number=99, removed=True))


def _started_twice(story: Story) -> None:
    story.rows.append(row_of(story.images[-1]._replace(job=2), "a"))


def _made_up(story: Story) -> None:
    story.rows.append(row_of(story.images[-1]._replace(job=2), "z"))


def _order_without_job(story: Story) -> None:
    story.asks("start with a row", None, "b")
    story.orders.append("b")


def _ended_twice(story: Story) -> None:
    story.write(C)


def _illegal(story: Story) -> None:
    story.claim()
    story.ends("suspends", S)
    story.write(T)


def _born_running(story: Story) -> None:
    story.images.append(FIRST._replace(job=2, state=R))


def _taken_back_unasked(story: Story) -> None:
    story.write(P, moved=True)


def _retry_without_trace(story: Story) -> None:
    story.asks("retry", "Retried")


def _goes_on_after_cancel(story: Story) -> None:
    story.asks("cancel", "CancelRequested")
    story.write(R, cancel_requested=True)
    story.ends("raises", T, scheduler_retries=1, cancel_requested=True)


def _claimed_from_under(story: Story) -> None:
    story.claim()


def _claim_skips(story: Story) -> None:
    story.claim(claim=3)


def _attempt_goes_back(story: Story) -> None:
    story.ends("raises", T, scheduler_retries=1, attempt=0)


def _foreign_checkpoint(story: Story) -> None:
    story.persist(writer=7)


def _foreign_result(story: Story) -> None:
    story.handler.append(Ended(1, 1, "returns"))
    story.write(C, moved=True, outcome=2)


def _another_worker(story: Story) -> None:
    story.write(R, worker="w2")


def _begun_twice(story: Story) -> None:
    story.handler.append(Began(1, 1, 20))


def _refused_and_written(story: Story) -> None:
    story.ends("refused", T, scheduler_retries=1)


def _refused_and_kept(story: Story) -> None:
    story.ends("refused", P, checkpoint=story.images[-1].checkpoint + 1)


def _number_goes_back(story: Story) -> None:
    story.persist()
    story.write(R, checkpoint=0)


def _progress_goes_back(story: Story) -> None:
    story.persist(at=3)
    story.persist(at=2)


def _events_go_back(story: Story) -> None:
    story.asks("send", "Sent", "e1")
    story.persist(seen=["e1"])
    story.persist(seen=[])


def _row_twice(story: Story) -> None:
    story.row()
    story.effects.append(story.effects[-1])


def _row_of_another_transaction(story: Story) -> None:
    story.row()
    story.effects[-1] = story.effects[-1]._replace(transaction=77)


def _checkpoint_without_row(story: Story) -> None:
    story.persist(rows=1)


def _row_of_nobody(story: Story) -> None:
    story.effects.append(EffectRow(9, 0, 1, None, 1))


def _step_forgotten(story: Story) -> None:
    story.handler += [Stepped(1, 1, "s", 1), Stepped(1, 2, "s", 2)]


def _step_called_again(story: Story) -> None:
    story.handler += [Stepped(1, 1, "s", 1), Called(1, 2, "s")]


def _effect_twice(story: Story) -> None:
    story.handler += [Effect(1, 1, 0), Effect(1, 1, 0)]


def _effect_never(story: Story) -> None:
    story.persist(effects=1)


BROKEN: list[tuple[str, Callable[[], Story], Callable[[Story], None], str]] = [
    ("I1", completed, _lost_job, "acknowledged and is there 0 times"),
    ("I1", completed, _another_job, "was acknowledged as b and is a"),
    ("I1", started, _put_nowhere, "put nowhere"),
    ("I2", completed, _started_twice, "a was started once and is there 2 times"),
    ("I2", completed, _made_up, "z is there, and nobody has asked"),
    ("I2", completed, _order_without_job, "its row in the same transaction 1 times"),
    ("I3", completed, _ended_twice, "had ended (completed), and was written to again"),
    ("I3", started, _illegal, "a job can't go from suspended to retrying"),
    ("I3", completed, _born_running, "job 2 began as running"),
    ("I3", completed, _taken_back_unasked, "taken back 1 times, of 0 retries"),
    ("I3", completed, _retry_without_trace, "taken back 0 times, of 1 retries"),
    ("I3", running, _goes_on_after_cancel, "to be cancelled in attempt 1, and became retrying"),
    ("I4", running, _claimed_from_under, "claimed from under claim 1"),
    ("I4", started, _claim_skips, "claim 0 became 3"),
    ("I4", running, _attempt_goes_back, "attempt 1 became 0"),
    ("I4", running, _foreign_checkpoint, "a checkpoint of attempt 7 was written while attempt 1 had it"),
    ("I4", running, _foreign_result, "result of attempt 2 in attempt 1"),
    ("I4", running, _another_worker, "from worker w1 to w2 in the midst of attempt 1"),
    ("I4", running, _begun_twice, "has begun 2 times"),
    ("I4", running, _refused_and_written, "told that its lease is lost, and then wrote retrying"),
    ("I4", running, _refused_and_kept, "told that its lease is lost, and then wrote pending"),
    ("I5", running, _number_goes_back, "checkpoint 0 follows 1"),
    ("I5", running, _progress_goes_back, "`at` went from 3 back to 2"),
    ("I5", running, _events_go_back, "the events ['e1'] that it had used became []"),
    ("I5", running, _row_twice, "without its checkpoint"),
    ("I5", running, _row_of_another_transaction, "transaction 77, without its checkpoint"),
    ("I5", running, _checkpoint_without_row, "counts row 0, which isn't there"),
    ("I5", completed, _row_of_nobody, "job 9 has 1 rows and never was"),
    ("I5", completed, _step_forgotten, "gave what attempt 1 had stored to attempt 1"),
    ("I5", completed, _step_called_again, "is called again in attempt 2"),
    ("I6", running, _effect_twice, "had 2 times in attempt 1"),
    ("I6", running, _effect_never, "counts effect 0, which nobody has had"),
]


@pytest.mark.parametrize(("invariant", "build", "breach", "words"), BROKEN)
def test_a_broken_rule_is_found(
    invariant: str, build: Callable[[], Story], breach: Callable[[Story], None], words: str
) -> None:
    story = build()
    breach(story)
    story.assert_breaks(invariant, words)


def test_each_of_the_first_invariants_is_broken_here() -> None:
    assert {invariant for invariant, *_ in BROKEN} == {"I1", "I2", "I3", "I4", "I5", "I6"} & set(CHECKS)
