"""`make bench` runs, and shows every figure that docs/performance.md explains."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_MEASURED = {
    "drain, 1 worker, concurrency 100: jobs/s",
    "drain, 1 worker, concurrency 1,000: jobs/s",
    "worker's CPU, concurrency 100: µs a job",
    "worker's CPU, concurrency 1,000: µs a job",
    "start_many: jobs/s",
    "start, one by one: jobs/s",
    "latency from start to handler, idle worker, p50: ms",
    "latency from start to handler, idle worker, p99: ms",
    "ctx.persist(), 20 jobs at once: checkpoints/s",
    "ctx.transaction() with a row, 20 jobs at once: checkpoints/s",
}


@pytest.mark.timeout(120)
def test_a_short_run_shows_every_row_with_a_figure_of_either_side(tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    command = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--jobs", "100", "--out", str(out)]

    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = dict(line.strip("| ").split(" | ", 1) for line in done.stdout.splitlines() if line.startswith("| "))
    assert rows.keys() >= _MEASURED
    for title in _MEASURED:
        ratio, ours, theirs = (cell.strip() for cell in rows[title].split("|"))
        assert float(re.match(r"[\d.]+", ratio)[0]) > 0, title
        assert float(ours.replace(",", "")) > 0, title
        assert float(theirs.replace(",", "")) > 0, title
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {(line["work"], line["side"]) for line in lines} == {
        (work, side)
        for work in ("drain 100", "drain 1000", "start", "latency", "persist", "transact")
        for side in ("perdure", "bare")
    }
    assert {line["loop"] for line in lines} == {"asyncio"}
