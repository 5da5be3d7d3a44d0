"""mypy and pyright, both strict, read a task's types off its handler, and refuse what doesn't fit.

The samples are the statement: of `refused.py` exactly the marked lines are refused, and all others are accepted to
the line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).with_name("samples")
Findings = dict[str, dict[int, str]]
"""What a checker says, by file and line."""


def run_mypy() -> Findings:
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file="]
    said = subprocess.run([*command, *sorted(SAMPLES.glob("*.py"))], capture_output=True, text=True, check=False)
    found: Findings = {}
    for line in said.stdout.splitlines():
        match = re.fullmatch(r"(.+?):(\d+): error: (.+)", line)
        if match:
            found.setdefault(Path(match[1]).name, {})[int(match[2])] = match[3]
    assert said.returncode == 1, f"the refused samples must be refused: {said.stdout}{said.stderr}"
    return found


def run_pyright() -> Findings:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(SAMPLES)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1, f"the refused samples must be refused: {said.stdout}{said.stderr}"
    found: Findings = {}
    for entry in json.loads(said.stdout)["generalDiagnostics"]:
        line = entry["range"]["start"]["line"] + 1
        found.setdefault(Path(entry["file"]).name, {})[line] = entry["message"]
    return found


@pytest.mark.parametrize("run", [run_mypy, run_pyright], ids=["mypy", "pyright"])
def test_the_types_are_inferred_from_the_handler_and_what_does_not_fit_is_refused(run: Callable[[], Findings]) -> None:
    found = run()

    assert {name: said for name, said in found.items() if name != "refused.py"} == {}

    source = (SAMPLES / "refused.py").read_text("utf-8").splitlines()
    marked = {number for number, line in enumerate(source, 1) if line.endswith("# refused")}
    refused = found.get("refused.py", {})
    assert {line: source[line - 1] for line in marked - refused.keys()} == {}, "accepted, and should not be"
    assert {line: refused[line] for line in refused.keys() - marked} == {}, "refused, and should not be"
