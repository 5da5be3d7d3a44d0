"""The command line of the mutants: `python -m tests.mutants [--only TEXT] [--list] [--into docs/reliability.md]`.

Exit code 0: the named tests pass as the code is, and each mutant is caught.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.listed import MUTANTS
from tests.mutants.table import put, table
from tests.mutants.trial import ROOT, Fate, ask, copy, try_mutant
from tests.support.cluster import TestRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.mutants.mutant import Mutant
    from tests.mutants.trial import Trial

_BASELINE_SECONDS = 1800.0
_GOOD = {Fate.CAUGHT, Fate.SKIPPED}


def main() -> int:
    """Try them; 0: all are caught."""
    options = _options()
    chosen = [mutant for mutant in MUTANTS if not options.only or any(text in mutant.name for text in options.only)]
    if options.list:
        for mutant in chosen:
            sys.stdout.write(f"{mutant.name}: {mutant.breaks} ({mutant.file})\n")
        return 0
    began_at_seconds = time.monotonic()
    run = TestRun.begin()
    try:
        with copy(ROOT) as base:
            servers = str(run.folder)
            if not _baseline(chosen, base, servers, options.processes, only_compile=options.no_baseline):
                return 1
            trials = _try_all(chosen, base, servers, options.processes)
    finally:
        run.end()
    text = table(trials)
    if options.into is not None:
        put(options.into, text)
    bad = [trial for trial in trials if trial.fate not in _GOOD]
    for trial in bad:
        _say(f"\n{trial.mutant.name}: {trial.fate.value}\n{trial.told}")
    _say(text if options.table else text.partition("\n")[0])
    _say(f"in {(time.monotonic() - began_at_seconds) / 60:.0f} minutes")
    return 1 if bad or not trials else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Take safeguards out one by one; a test must notice each."
    )
    parser.add_argument("--only", action="append", metavar="TEXT", help="only those whose names have this in them")
    parser.add_argument("--list", action="store_true", help="say which there are, and try none")
    parser.add_argument("--table", action="store_true", help="print the table, too")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="a page to put the table into")
    parser.add_argument("--no-baseline", action="store_true", help="take it for granted that the tests pass unmutated")
    parser.add_argument("-n", dest="processes", type=int, default=2, help="so many at once (%(default)s)")
    return parser.parse_args()


def _baseline(mutants: Sequence[Mutant], base: Path, servers: str, processes: int, *, only_compile: bool) -> bool:
    """Run all the tests that are named as the code is: one that fails anyhow catches nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests if not mutant.rotten(base)})
    options = ["--collect-only"] if only_compile else ["-n", str(processes), "--dist", "worksteal"]
    answer = ask(base, tests, _BASELINE_SECONDS, servers, *options)
    if answer.code != 0:
        _say(f"{answer.text}\nthe tests fail without any mutant")
        return False
    if not only_compile:
        _say(f"unmutated, {len(tests)} tests pass")
    return True


def _try_all(mutants: Sequence[Mutant], base: Path, servers: str, processes: int) -> list[Trial]:
    def tried(mutant: Mutant) -> Trial:
        trial = try_mutant(mutant, base, servers)
        _say(f"{trial.fate.value:9} {trial.seconds:5.1f} s  {mutant.name}: {trial.told.splitlines()[-1]}")
        return trial

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(tried, mutants))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
