"""`make bench` runs, checks what it has measured, and its figures are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import PEERS
from benchmarks.report import read, tables
from benchmarks.rows import COMPARED, OURS
from benchmarks.works import WORKS

_ROOT = Path(__file__).parents[2]
# Not all, for every worker is a process to start; the others are done in the same way.
_WORKS = ("drain", "start", "latency", "events")


@pytest.mark.timeout(120)
def test_a_short_run_has_a_figure_for_every_row_of_its_works(tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    options = ["--rounds", "1", "--scale", "0.001", "--contenders", "perdure,bare", "--works", ",".join(_WORKS)]
    options += ["--peers", str(tmp_path / "none"), "--out", str(out)]

    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    results = read(out)
    for row in (*COMPARED, *OURS):
        if row.work in _WORKS and row.contender == "perdure":
            assert len(results.figures(row, row.contender)) == 1, row
            assert f"| {row.title} | " in done.stdout
    assert tables(results) in done.stdout
    assert results.head["sides"].keys() == {"perdure", "bare"}
    assert results.head["left_out"].keys() == {peer.side for peer in PEERS}


def test_every_work_has_a_row_and_every_row_a_work_and_contenders_that_do_it() -> None:
    rows = (*COMPARED, *OURS)

    assert {row.work for row in rows} == WORKS.keys()
    for row in rows:
        assert row.contender in {one.name for one in WORKS[row.work].contenders}, row


def test_a_page_gets_tables_whose_ratios_are_the_medians_of_the_rounds_ratios(tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    rates = {"perdure": (50, 30, 100), "bare": (100, 100, 100), "pgqueuer": (10, 10, 10), "dbos": (1, 1, 1)}
    head = {
        "at": "today",
        "machine": {"processor": "one", "cores": 2, "memory_gib": 1, "system": "Linux", "data_on": "ext4", "load": 0},
        "python": "3.13",
        "postgresql": "18",
        "postgresql_settings": {},
        "settings": {"rounds": 3, "scale": 1, "history_scale": 1, "loop": "uvloop"},
        "sides": {side: {"versions": {side: "1"}, "about": "as it comes", "python": "3.13"} for side in rates},
        "left_out": {"oban": "no such thing"},
    }
    lines = [
        {"work": "start", "contender": side, "round": number + 1, "figures": {"jobs_per_second": rate}}
        for side, all_rates in rates.items()
        for number, rate in enumerate(all_rates)
    ]
    lines.append({"work": "drain", "contender": "dbos", "round": 2, "error": "RuntimeError: 1 of 2"})
    out.write_text("\n".join(json.dumps(line) for line in (head, *lines)), encoding="utf-8")
    page = tmp_path / "performance.md"
    page.write_text((_ROOT / "docs/performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "images").mkdir()
    for name in ("drain.png", "drain.svg"):
        (tmp_path / "images" / name).touch()

    command = [sys.executable, "-m", "benchmarks.report", str(out), "--into", str(page)]
    subprocess.run(command, cwd=_ROOT, check=True, timeout=30)

    text = page.read_text(encoding="utf-8")
    assert tables(read(out)) in text

    ratios = "0.50 (0.30 to 1.00) | 5.00 (3.00 to 10.00), pgqueuer"
    assert f"| start, one by one: jobs/s | 50 | {ratios} | 100 | 10 | 1 |" in text
    assert "oban took no part: no such thing" in text
    assert "failed: drain, dbos, round 2: RuntimeError: 1 of 2" in text
    assert "(images/drain.png)" in text
    assert text.startswith("# Performance\n")
    assert text.count("<!-- figures") == 2
    assert "## What to expect" in text
