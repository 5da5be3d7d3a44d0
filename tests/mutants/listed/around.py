"""What stands around the worker: who waits for results; and the proof that it is the copy which is tried."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["AROUND"]

_RESULTS = "tests/acceptance/test_client_results.py::"
_LATE = "tests/acceptance/test_client_results_late.py::"

AROUND = (
    Mutant(
        "nothing can be imported",
        "not a safeguard: shows that the copy is tried, and not what is installed",
        "errors.py",
        "from __future__ import annotations\n",
        'from __future__ import annotations\n\nraise ImportError("nothing can be imported")\n',
        ("tests/unit/test_errors.py::test_the_tree_is_the_one_that_is_drawn",),
        breaks_import=True,
    ),
    Mutant(
        "who waits for a result doesn't poll",
        "one lost notification, and it waits for ever",
        "waiting.py",
        "            for job_id in (*finished, *self._not_there_yet()):\n                self._tell(job_id)",
        "            for job_id in self._not_there_yet():\n                self._tell(job_id)",
        (f"{_RESULTS}test_a_lost_notification_delays_by_a_poll",),
    ),
    Mutant(
        "who waits looks first and asks to be told then",
        "an end in between is seen by neither",
        "waiting.py",
        "                if asks:\n                    await self._ask(job_id)\n"
        "                row = await self._rows.of(job_id)",
        "                row = await self._rows.of(job_id)\n"
        "                if asks:\n                    await self._ask(job_id)",
        (f"{_RESULTS}test_an_end_just_before_the_asking_is_seen",),
    ),
    Mutant(
        "the look when the time is over has no limit",
        "who waits for five seconds waits for a minute, as long as a table is locked",
        "waiting.py",
        "            return await self._rows.within_limit_of(job_id)\n",
        "            return await self._rows.of(job_id)\n",
        (f"{_LATE}test_who_waits_for_a_locked_table_is_told_when_the_time_is_over",),
    ),
    Mutant(
        "a waiter makes no later look where one has failed",
        "a hundred who wait for results are told of one broken connection",
        "waiting.py",
        "                if not has_looked:\n",
        "                if not has_looked or job_id:\n",
        (f"{_LATE}test_who_waits_survives_broken_connections_and_one_line_tells_so",),
    ),
    Mutant(
        "a first look that has failed raises the driver's error",
        "who catches what perdure raises doesn't catch it",
        "waiting.py",
        "    if isinstance(error, DatabaseUnavailable):\n        raise error\n",
        "    if error:\n        raise error\n",
        (f"{_LATE}test_a_first_look_that_is_not_answered_is_told_as_the_database_unavailable",),
    ),
    Mutant(
        "the queue of looks counts as one look when the time is over",
        "of thousands of jobs that have ended it is said that the database doesn't tell how they stand",
        "gathering.py",
        "            if self._slices - self._began_in_slice > _SLICES:\n",
        "            if self._slices > _SLICES:\n",
        (f"{_LATE}test_a_look_when_the_time_is_over_waits_behind_others_as_long_as_they_are_answered",),
    ),
    Mutant(
        "the time that an event loop is blocked counts as the database's",
        "of jobs that have ended it is said that the database doesn't tell how they stand",
        "gathering.py",
        "            await asyncio.sleep(self._limit_seconds / _SLICES)\n            self._slices += 1\n",
        "            began_seconds = asyncio.get_running_loop().time()\n"
        "            await asyncio.sleep(self._limit_seconds / _SLICES)\n"
        "            passed_seconds = asyncio.get_running_loop().time() - began_seconds\n"
        "            self._slices += round(passed_seconds / self._limit_seconds * _SLICES)\n",
        (f"{_LATE}test_a_look_when_the_time_is_over_isnt_given_up_since_the_event_loop_was_blocked",),
    ),
    Mutant(
        "the look when the time is over is a short one",
        "a thread on a slow network that doesn't wait is never told of an end: its connection isn't there in time",
        "waiting.py",
        "LAST_LOOK_SECONDS: Final = 2.0",
        "LAST_LOOK_SECONDS: Final = 0.5",
        (f"{_LATE}test_a_threads_first_connection_on_a_slow_network_is_there_in_time_for_its_only_look",),
    ),
    Mutant(
        "an error of the look when the time is over is raised as it is",
        "who waits for some time and gets no result is told of what nobody promised",
        "waiting.py",
        "        except NO_ANSWER as error:\n            raise TimeoutError(",
        "        except MissingRight as error:\n            raise TimeoutError(",
        (f"{_LATE}test_an_error_of_the_last_look_is_told_as_no_answer",),
    ),
    Mutant(
        "a look without an event loop has the pool's limit alone",
        "a thread that waits for five seconds waits for a minute, as long as a table is locked",
        "connections.py",
        "if seconds < ANSWER_SECONDS:",
        "if seconds < 0:",
        (f"{_LATE}test_a_thread_that_waits_for_a_locked_table_is_told_when_the_time_is_over",),
    ),
    Mutant(
        "a look without an event loop waits for a connection as long as any call",
        "a thread that waits for a fifth of a second waits for ten, when the database is away",
        "connections.py",
        "pool.getconn(until_seconds - time.monotonic())",
        "pool.getconn()",
        (f"{_LATE}test_a_thread_that_begins_to_wait_while_nobody_answers_is_told_when_the_time_is_over[stopped]",),
    ),
    Mutant(
        "a look without an event loop tries a connection for as long as any call",
        "a thread that waits for a fifth of a second waits for five, when the server is frozen",
        "pools.py",
        "min(_TRIAL_SECONDS, until_seconds - time.monotonic())",
        "_TRIAL_SECONDS",
        (f"{_LATE}test_a_thread_that_begins_to_wait_while_nobody_answers_is_told_when_the_time_is_over[frozen]",),
    ),
    Mutant(
        "no later look is made where one has failed",
        "a thread that waits for a result doesn't survive a broken connection",
        "polling.py",
        "            if is_first:\n",
        "            if is_first or job:\n",
        (f"{_LATE}test_a_thread_that_waits_survives_a_broken_connection",),
    ),
    Mutant(
        "a thread that waits is told of a failed look when the time is over",
        "who waits for some time and gets no result is told of what nobody promised",
        "polling.py",
        "                raise job.unanswered(timeout_seconds) from error\n",
        "                raise\n",
        (f"{_LATE}test_a_thread_that_waits_is_told_when_the_time_is_over_and_the_database_away",),
    ),
    Mutant(
        "a thread that waits looks as seldom as a worker may",
        "with notifications for the workers, that may be once a day",
        "polling.py",
        ", polling_seconds, _LONGEST_WAIT_SECONDS)",
        ", polling_seconds)",
        (f"{_LATE}test_a_thread_that_waits_looks_often_whatever_the_polling_delay",),
    ),
    Mutant(
        "the end of an awaited job isn't told",
        "who waits for it is left to the polls",
        "store/queries/finish.sql",
        "from ended where awaited)",
        "from ended where awaited and false)",
        ("tests/store/test_finish.py::test_the_end_of_an_awaited_job_is_notified_with_its_id",),
    ),
    Mutant(
        "a broken connection under a start says nothing",
        "who gets the error may think that nothing was stored",
        "connections.py",
        "        if connection is None or not connection.closed:\n            raise",
        "        if connection is None or connection is not None:\n            raise",
        ("tests/acceptance/test_app_connections.py::test_a_restarted_database_costs_a_call_or_none",),
    ),
    Mutant(
        "a report that the database refuses isn't made again",
        "jobs that wait for the code that this worker has go on waiting",
        "worker/reporting.py",
        "            if is_refusal(error):  # of what was to be written\n                raise\n",
        "            if not isinstance(error, psycopg.OperationalError):\n                raise\n",
        ("tests/worker/test_reporting.py::test_a_report_that_the_database_refuses_is_made_again",),
    ),
)
