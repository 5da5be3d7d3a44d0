"""The figures as a table, in Markdown, which reads well on a terminal too."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import psycopg

from perdure import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.works import Figures

__all__ = ["ROWS", "Rounds", "Row", "headline", "table"]

Rounds: TypeAlias = "dict[str, dict[str, list[Figures]]]"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        title: What it shows, with the unit.
        work: Where its figure was measured; several have it when they did the same.
        figure: The figure's name.
        digits: Decimal places.
    """

    title: str
    works: tuple[str, ...]
    figure: str
    digits: int = 0


ROWS = (
    Row("drain, 1 worker, concurrency 100: jobs/s", ("drain 100",), "drain"),
    Row("drain, 1 worker, concurrency 1,000: jobs/s", ("drain 1000",), "drain"),
    Row("worker's CPU, concurrency 100: µs a job", ("drain 100",), "cpu_us", 1),
    Row("worker's CPU, concurrency 1,000: µs a job", ("drain 1000",), "cpu_us", 1),
    Row("start_many: jobs/s", ("drain 100", "drain 1000"), "start_many"),
    Row("start, one by one: jobs/s", ("start",), "start"),
    Row("latency from start to handler, idle worker, p50: ms", ("latency",), "p50_ms", 2),
    Row("latency from start to handler, idle worker, p99: ms", ("latency",), "p99_ms", 2),
    Row("ctx.persist(), 20 jobs at once: checkpoints/s", ("persist",), "persist"),
    Row("ctx.transaction() with a row, 20 jobs at once: checkpoints/s", ("transact",), "transact"),
)


def headline(dsn: str, loop: str, rounds: int, jobs: int) -> str:
    """Say what was measured on what."""
    with psycopg.connect(dsn) as connection:
        version = connection.info.server_version
    return (
        f"perdure {__version__} and bare psycopg {psycopg.__version__} ({psycopg.pq.__impl__}) on "
        f"PostgreSQL {version // 10000}.{version % 10000}; Python {platform.python_version()}, {loop}; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rounds} rounds of {jobs:,} jobs"
    )


def table(measured: Mapping[str, Mapping[str, list[Figures]]]) -> str:
    """Return medians, and the median, least and greatest of the rounds' ratios."""
    lines = ["| | perdure to bare psycopg (least to greatest) | perdure | bare |", "|---|---|---|---|"]
    for row in ROWS:
        ours, theirs = _figures(measured, row, "perdure"), _figures(measured, row, "bare")
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        lines.append(
            f"| {row.title} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {median(ours):,.{row.digits}f} | {median(theirs):,.{row.digits}f} |"
        )
    return "\n".join(lines)


def _figures(measured: Mapping[str, Mapping[str, list[Figures]]], row: Row, side: str) -> list[float]:
    return [figures[row.figure] for work in row.works for figures in measured[work][side]]
