"""A worker whose lease isn't valid claims nothing: it couldn't write to what it claims, and others would rescue it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure.store import claims

if TYPE_CHECKING:
    from uuid import UUID

    from tests.store.workbench import Workbench

LOSSES = {
    "is marked as lapsed": "lapsed_at = clock_timestamp()",
    "has run out": "lease_until = clock_timestamp()",
    "is of another time line": "timeline = 'another'",
}


def _claimed(bench: Workbench, statement: str, worker: UUID) -> list[int]:
    if statement == "claim_suspect":
        return [job.id for job in bench.run(claims.claim_suspect(bench.names, worker, queues=None), bench.writer)]
    if statement == "claim_band":
        (band,) = bench.run(claims.bands(bench.names))
        call = claims.claim_band(bench.names, worker, want=5, queues=None, band=band)
    else:
        call = claims.claim(bench.names, worker, want=5, queues=None)
    return [job.id for job in bench.run(call, bench.writer).jobs]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("statement", ["claim", "claim_band", "claim_suspect"])
def test_nothing_is_claimed_under_a_lease_that(every_bench: Workbench, statement: str, loss: str) -> None:
    bench, worker, other = every_bench, every_bench.register(), every_bench.register()
    job_id = bench.start()
    bench.sql("update {s}.jobs set suspect = %s", statement == "claim_suspect")
    before = bench.job(job_id)
    with bench.writer.transaction():  # which has begun before the loss
        bench.sql(f"update {{s}}.workers set {LOSSES[loss]} where id = %s", worker)
        assert _claimed(bench, statement, worker) == []
    assert bench.job(job_id) == before
    assert _claimed(bench, statement, other) == [job_id]
