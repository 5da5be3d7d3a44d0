"""Histories of runs: written down by those who act, checked by pure functions against the invariants.

`Recorder` writes lines; `journal.install` makes the database keep a log of each job's transitions; `collect` puts both
together; `violations` says what is wrong with it.
"""

from __future__ import annotations

from tests.support.history import journal
from tests.support.history.checks import CHECKS, violations
from tests.support.history.collect import collect, read_folder
from tests.support.history.lines import Recorder, read_lines
from tests.support.history.pulse import Pulse
from tests.support.history.values import History, Rules

__all__ = [
    "CHECKS",
    "History",
    "Pulse",
    "Recorder",
    "Rules",
    "collect",
    "journal",
    "read_folder",
    "read_lines",
    "violations",
]
