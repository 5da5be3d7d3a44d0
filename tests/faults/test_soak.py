"""A short soak: what a worker takes of memory, descriptors, threads and connections stays as it is (I13)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiers import SEED, TIER

_MINUTES = 12
_ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(TIER == "push", reason="takes a quarter of an hour: see `make faults`")
def test_what_runs_under_faults_for_minutes_stays_flat_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--hours", f"{_MINUTES / 60}", "--seed", f"{SEED}"]
    done = subprocess.run(
        [*command, "--into", str(tmp_path / "soak.jsonl")], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
