"""What is asked again when its connection is cut, and what its answer says then."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["CUTS"]

_SELDOM = "tests/faults/network/test_cut_seldom.py::"

CUTS = (
    Mutant(
        "a job's question is asked but once",
        "a cut is the handler's error, and spends a retry",
        "worker/port.py",
        'if is_refusal(error) or (error.sqlstate or "").startswith("42"):',
        "if error:",
        (f"{_SELDOM}test_upgrade_of_payloads",),
    ),
    Mutant(
        "whether a COMMIT was done is asked but once",
        "a cut is the handler's error, and spends a retry",
        "worker/port.py",
        "except Exception as error:  # noqa: BLE001 - the lane reconnects",
        "except ZeroDivisionError as error:  # noqa: BLE001 - the lane reconnects",
        (f"{_SELDOM}test_question_about_a_commit",),
    ),
    Mutant(
        "what has become of a write is asked but once",
        "whoever waits for it waits for ever",
        "worker/lane.py",
        "                    self._give_back(worker_id, unwritten)\n",
        "",
        (f"{_SELDOM}test_question_what_has_become_of_a_write",),
        timeout_seconds=300.0,  # the job that waits for ever holds up the end of the test
    ),
    Mutant(
        "a report that is cut isn't made again",
        "a lapse that was none stays counted, and what waited for this code waits on",
        "worker/reporting.py",
        "            if is_refusal(error):  # of what was to be written\n",
        "            if error:\n",
        (
            f"{_SELDOM}test_report_of_a_worker_that_had_lost_its_lease",
            f"{_SELDOM}test_revival_of_what_waited_for_this_code",
        ),
    ),
)
