"""A write that was given up, and made again, arrives after all: while its job runs on, in its own claim or a later one.

Not one row gets a new version by it, and the attempt that runs then goes on as if nothing had come. Mutants take out
what each write is guarded by, and these tests notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.jobs import until
from tests.support.marks import mark

if TYPE_CHECKING:
    from perdure import Job
    from tests.faults.network.late import Late
    from tests.support.proxy import Cut


class Case(NamedTuple):
    """A write, and where its late copy finds the job.

    Attributes:
        statement: What comes late.
        act: What the job does that makes the worker ask for it.
        between: What is done by somebody else, so that the job runs again.
        by: Who runs it when the copy comes: "" the same claim, or a later one of the "same" or "another" worker.
        first: What is cut before it, and how, so that the worker asks for it at all.
        answer: What the server says to it: it is executed, and finds no row of its own; or it is refused.
    """

    statement: str
    act: str
    between: str = ""
    by: str = ""
    first: tuple[str, Cut] | None = None
    answer: str = "SELECT 0"

    def __str__(self) -> str:
        where = f"a later claim of {self.by}" if self.by else "its own claim"
        return f"{self.statement} ({self.act}) in {where}"


_OTHERS = ("the same worker", "another worker")
CASES = [
    Case("persist", "persist twice"),
    Case("persist", "step"),
    *(Case("persist", "persist and raise", by=by) for by in _OTHERS),
    *(Case("finish", "return", between="retry", by=by, answer="SELECT 1") for by in _OTHERS),
    *(Case("release", "suspend", between="proceed", by=by) for by in _OTHERS),
    *(Case("release", "raise", by=by) for by in _OTHERS),
    Case("fence", "commit twice", answer="PD001"),
    *(Case("fence", "commit and raise", by=by, answer="PD001") for by in _OTHERS),
    Case("report_progress", "progress", between="progress", by="the same worker", answer="UPDATE 0"),
    Case("begin_sleep", "sleep", between="retry afresh", by="the same worker"),
    Case("upgrade", "upgrade", answer="UPDATE 0"),
    Case("take_checkpoint_number", "commit twice", first=("fence", "before"), answer="UPDATE 0"),
    Case("put_back", "nothing", by="the same worker", first=("claim", "after"), answer="UPDATE 0"),
    Case("defer", "nothing", between="mend", by="the same worker", answer="UPDATE 0"),
]


async def _deliver(late: Late, job: Job[Any, Any, Any, Any], answer: str) -> None:
    """Let the copy come, to a job that stands at the gate: it is executed, and changes nothing; the job goes on."""
    await late.gate.reached()
    before, began = late.rows(job), list(late.gate.began)
    [running] = [row for kind, row, _ in before if kind == "job"]
    assert '"state": 2' in running
    answers = await late.proxy.deliver()
    assert late.rows(job) == before
    assert answers[0] == answer
    late.gate.open()
    again = await late.other.job(job.id)  # that one may have seen an end already, which was undone
    assert await again.result(timeout=60) == began[-1]
    assert late.gate.began == began  # it went on, and wasn't begun again


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_late_copy_changes_nothing_of_a_job_that_runs(late: Late, case: Case) -> None:
    proxy = late.proxy
    job = await late.start(case.act)
    if case.between == "mend":
        late.hands.make(job, metadata="3")
    if case.first is not None:
        proxy.arm(mark(case.first[0]), case.first[1])
    proxy.arm(mark(case.statement), "late")
    async with late.app.worker(concurrency=1) as worker:
        await until(lambda: not proxy.is_armed, "it is cut")
        if case.by == "another worker":
            worker.claimer.open = False
        await late.let_on(job, case.between)
        if case.by == "another worker":
            async with late.other.worker():
                await _deliver(late, job, case.answer)
                assert late.gate.began == [1, 2]
        else:
            await _deliver(late, job, case.answer)
    effects = late.hands.sql("select n from effects order by n")
    assert effects == ([(0,)] if case.act == "commit twice" else [])
