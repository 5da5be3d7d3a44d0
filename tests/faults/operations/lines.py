"""The lines that a worker writes, and what they are to be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.support.processes import Process

__all__ = [
    "AGAIN",
    "AWAY",
    "LEFT_BEHIND",
    "LOST",
    "NEW_LEASE",
    "RAISED",
    "READY",
    "RESCUED",
    "STARTING",
    "STOPPED",
    "STOPPING",
    "assert_lines",
    "logged",
]

_LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?P<level>\w+) (?P<logger>[\w.]+) \[\d+\] (?P<message>.*)$")
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

STARTING = r"INFO starting: perdure [\w.]+ on postgresql://postgres@[\d.:]+/\w+, schema 'background_tasks'"
READY = r"ready: \d tasks, all queues, \d+ jobs at once \(process \d+\)"
AWAY = r"WARNING the database is away: .+ \((lane \d|heartbeat)\); trying again until it works"
AGAIN = "WARNING the database is there again"
LOST = rf"WARNING worker {_ID} has lost its lease \(it couldn't be renewed in time\): its jobs are left to others"
NEW_LEASE = rf"WARNING worker {_ID} has a new lease: it claims again"
STOPPING = "INFO SIGTERM: stopping; running jobs may end within the grace"
STOPPED = "INFO stopped"
# Of jobs, not of the worker: once a minute for each task, however many jobs there are.
RAISED = r"INFO job \d+ \(\w+\), attempt \d+ raised: .+"
LEFT_BEHIND = r"WARNING job \d+ \(\w+\), attempt \d+ didn't end within the grace .+"
RESCUED = rf"WARNING worker {_ID} is lost: \d+ of its jobs go on elsewhere"


def logged(process: Process) -> list[str]:
    """Return each line, those of the log as `LEVEL message`."""
    lines: list[str] = []
    for line in process.output.splitlines():
        found = _LINE.match(line)
        lines.append(line if found is None else f"{found['level']} {found['message']}")
    return lines


def assert_lines(process: Process, once: Collection[str], *, perhaps: Collection[str] = (), times: int = 1) -> None:
    """Make sure of every line that a worker has written.

    Args:
        process: The worker, which has ended.
        once: A pattern for each line that there is.
        perhaps: Patterns of lines that there may be beside these, three of each at most.
        times: How many workers write to the same log, each of them all these lines.
    """
    counts = dict.fromkeys([*once, *perhaps], 0)
    for line in logged(process):
        matching = [pattern for pattern in counts if re.fullmatch(pattern, line)]
        assert matching, f"what is {line!r} of:\n{process.output}"
        counts[matching[0]] += 1
    wrong = [pattern for pattern in once if counts[pattern] != times]
    wrong += [pattern for pattern in perhaps if counts[pattern] > 3 * times]
    assert not wrong, f"{[(counts[pattern], pattern) for pattern in wrong]} of:\n{process.output}"
