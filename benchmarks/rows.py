"""The rows of the report: which figure of which work each shows. `make test` holds that every work has one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMPARED", "OURS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table.

    Attributes:
        title: What it shows, with the unit.
        work: Where its figure was measured.
        figure: The figure's name.
        contender: Whose figure is perdure's.
        bare: Whose figure it is compared with.
        digits: Decimal places.
        less_is_better: Whether the best peer is the one with the least.
    """

    title: str
    work: str
    figure: str
    contender: str = "perdure"
    bare: str = "bare"
    digits: int = 0
    less_is_better: bool = False


def _latency(title: str, work: str) -> tuple[Row, Row]:
    return (
        Row(f"latency, {title}, p50: ms", work, "p50_ms", digits=2, less_is_better=True),
        Row(f"latency, {title}, p99: ms", work, "p99_ms", digits=2, less_is_better=True),
    )


def _cost(title: str, figure: str, digits: int) -> tuple[Row, Row]:
    return (
        Row(f"{title}, concurrency 100", "drain", figure, digits=digits, less_is_better=True),
        Row(f"{title}, concurrency 1,000", "drain", figure, "perdure 1000", digits=digits, less_is_better=True),
    )


COMPARED = (
    Row("drain, 1 worker, defaults: jobs/s", "drain", "jobs_per_second"),
    Row("drain, 1 worker, defaults on plain asyncio: jobs/s", "drain", "jobs_per_second", "perdure asyncio"),
    Row("drain, 1 worker, concurrency 1,000: jobs/s", "drain", "jobs_per_second", "perdure 1000"),
    Row("… beside psycopg on tables of this shape", "drain", "jobs_per_second", "perdure 1000", "tables"),
    Row("drain, 2 workers, defaults: jobs/s", "drain2", "jobs_per_second"),
    Row("drain, 2 workers, concurrency 1,000: jobs/s", "drain2", "jobs_per_second", "perdure 1000"),
    *_cost("worker's CPU: µs a job", "worker_us", 1),
    *_cost("server's CPU: µs a job", "server_us", 1),
    *_cost("WAL: bytes a job", "wal_bytes", 0),
    Row("start, one by one: jobs/s", "start", "jobs_per_second"),
    Row("start_many: jobs/s", "start_many", "jobs_per_second"),
    *_latency("idle worker", "latency"),
    *_latency("half load (20,000/s at most)", "load"),
    Row("half load: jobs/s fed", "load", "per_second"),
    Row("checkpoints by ctx.persist(), 50 jobs at once: 1/s", "checkpoints", "per_second"),
    Row("checkpoints by ctx.step(), 50 jobs at once: 1/s", "checkpoints", "per_second", "perdure step"),
    Row("ctx.transaction() with a row, 50 jobs at once: 1/s", "transactions", "per_second"),
    Row("idle worker: commits/s", "idle", "commits_per_second", digits=1, less_is_better=True),
    Row("idle worker: its CPU, ms/s", "idle", "worker_ms_per_second", digits=1, less_is_better=True),
    Row("idle worker: its connections' CPU, ms/s", "idle", "server_ms_per_second", digits=1, less_is_better=True),
    Row("jobs of 1 MiB, start_many: MiB/s", "big", "start_mib_per_second", digits=1),
    Row("jobs of 1 MiB, from start_many until all have ended: MiB/s", "big", "through_mib_per_second", digits=1),
    Row("pinned snapshot, first 10 s of 60: jobs/s", "pinned", "first_per_second", "perdure 1000"),
    Row("pinned snapshot, last 10 s of 60: jobs/s", "pinned", "last_per_second", "perdure 1000"),
    Row("pinned snapshot, last of first", "pinned", "last_of_first", "perdure 1000", digits=2),
    Row("the same minute without the snapshot, last 10 s: jobs/s", "pinned", "free_last_per_second", "perdure 1000"),
    Row("… last of first", "pinned", "free_last_of_first", "perdure 1000", digits=2),
    Row("the whole minute with the snapshot, of that without", "pinned", "held_of_free", "perdure 1000", digits=2),
)

OURS = (
    Row("handlers that sleep 10 to 30 ms, concurrency 100: jobs/s", "sleepy", "jobs_per_second"),
    Row("… of what the sleeps allow", "sleepy", "of_what_sleeps_allow", digits=2),
    Row("handlers that sleep 10 to 30 ms, concurrency 1,000: jobs/s", "sleepy", "jobs_per_second", "perdure 1000"),
    Row("… of what the sleeps allow", "sleepy", "of_what_sleeps_allow", "perdure 1000", digits=2),
    Row("event sent until its job's handler begins, p50: ms", "events", "p50_ms", digits=2),
    Row("event sent until its job's handler begins, p99: ms", "events", "p99_ms", digits=2),
    Row("events, 50 senders, until all jobs have ended: 1/s", "events", "per_second"),
    Row("proceed until the handler begins, p50: ms", "proceed", "p50_ms", digits=2),
    Row("proceed until the handler begins, p99: ms", "proceed", "p99_ms", digits=2),
    Row("proceed, 50 callers, until all jobs have ended: 1/s", "proceed", "per_second"),
    Row("suspend, and go on at once: runs/s", "resume", "per_second"),
    Row("raise, and retry at once: runs/s", "retry", "per_second"),
    Row("SIGTERM to the process's end, 1,000 jobs that look at ctx.stopping: s", "stop", "heeding_seconds", digits=2),
    Row("SIGTERM to the process's end, 1,000 jobs that are cancelled: s", "stop", "cancelled_seconds", digits=2),
    Row("kill -9 until the first of 1,000 jobs runs elsewhere, lease 2 s: s", "recover", "first_seconds", digits=2),
    Row("kill -9 until the last of 1,000 jobs runs elsewhere, lease 2 s: s", "recover", "last_seconds", digits=2),
    Row("worker's memory with 1 job in hand: MiB", "memory", "mib_at_1", digits=1),
    Row("worker's memory with 1,000 jobs in hand: MiB", "memory", "mib_at_1000", digits=1),
    Row("worker's memory with 10,000 jobs in hand: MiB", "memory", "mib_at_10000", digits=1),
    Row("10,000 waiting job.result(): results/s", "results", "per_second"),
    Row("10,000 waiting job.result(): client's CPU, µs a result", "results", "client_us", digits=1),
    Row("drain, empty database, concurrency 1,000: jobs/s", "history", "jobs_per_second", "empty"),
    Row("drain, long past, concurrency 1,000: jobs/s", "history", "jobs_per_second", "past"),
    Row("server's CPU, empty database: µs a job", "history", "server_us", "empty", digits=1),
    Row("server's CPU, long past: µs a job", "history", "server_us", "past", digits=1),
)
