"""A verdict is decided anew, with what the job's row says by then."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from perdure.core.decide import FRESH, Shutdown
from perdure.store.settles import Settlement
from perdure.worker.verdict import Verdict
from tests.unit.decide_life import LIMITS

RESETTING = replace(LIMITS, progress_resets_retries=True)
SPENT = replace(FRESH, scheduler_retries=3)
VERDICT = Verdict(7, 1, 5, SPENT, Shutdown(), RESETTING, execution_metadata=b"{}")
ROW = Settlement(
    id=7,
    claim=1,
    state=2,
    worker_id=uuid4(),
    checkpoint=5,
    cancel_requested=False,
    proceed_requested=False,
    locked=False,
)


@pytest.mark.parametrize(("checkpoint", "progressed"), [(5, False), (6, True)])
def test_a_checkpoint_that_landed_without_an_answer_is_progress_too(checkpoint: int, *, progressed: bool) -> None:
    informed = VERDICT.informed(ROW._replace(checkpoint=checkpoint))
    assert (informed.checkpoint, informed.snapshot.progressed) == (checkpoint, progressed)
    assert informed.entry().scheduler_retries == (0 if progressed else 3)  # type: ignore[union-attr]


def test_an_outcome_puts_nothing_older_over_a_checkpoint_that_landed_unheard() -> None:
    verdict = replace(VERDICT, events=(3,))
    known, newer = (verdict.informed(ROW._replace(checkpoint=checkpoint)).entry() for checkpoint in (5, 6))
    assert (known.checkpoint, known.execution_metadata, known.events) == (5, b"{}", (3,))
    assert (newer.checkpoint, newer.execution_metadata, newer.events) == (6, None, ())
