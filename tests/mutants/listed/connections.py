"""The application's connections: nobody waits in vain for one, or for its answer, and none grows too old."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["CONNECTIONS"]

_CONNECTIONS = "tests/acceptance/test_app_connections.py::"
_BLOCKING = "tests/acceptance/test_client_blocking.py::"
_LOOPS = "tests/acceptance/test_app_loops.py::"
_OPENING = "tests/acceptance/test_app_opening.py::"
_PIPELINES = "tests/acceptance/test_client_pipelines.py::"
_ENCODINGS = "tests/acceptance/test_client_encodings.py::"
_TRANSACTION = "tests/worker/test_transaction.py::"

CONNECTIONS = (
    Mutant(
        "a connection is kept aside though somebody waits for one",
        "who waits gets none until it is looked aside again, or no more time is left",
        "pools.py",
        "not (self._waiting_here or self._goes_through or self._is_closing)",
        "not (self._goes_through or self._is_closing)",
        (f"{_CONNECTIONS}test_whoever_waits_gets_the_connection_that_comes_back",),
    ),
    Mutant(
        "a connection that is used all the time is kept aside for ever",
        "it never goes through the pool, which ends old ones",
        "pools.py",
        "        self._goes_through = connection is None  # it is lent just now\n",
        "",
        (f"{_CONNECTIONS}test_a_connection_that_is_used_all_the_time_grows_no_older_than_others",),
    ),
    Mutant(
        "what was kept aside is trusted for ever",
        "the first call after a restart of the database gets a dead connection",
        "pools.py",
        "            if self._trust.covers(connection):\n                return connection\n            try:\n"
        "                with cut_after(",
        "            if connection is not None:\n                return connection\n            try:\n"
        "                with cut_after(",
        (f"{_CONNECTIONS}test_a_restarted_database_costs_a_call_or_none",),
    ),
    Mutant(
        "a pool that grows can't be cancelled",
        "a program that ends without closing its app hangs",
        "pools.py",
        "                asyncio.get_running_loop().call_soon(task.cancel)\n",
        "                pass\n",
        (f"{_LOOPS}test_a_program_ends_that_has_not_closed_its_app_though_its_pool_was_growing",),
    ),
    Mutant(
        "a close can be broken off by a cancellation",
        "its connections stay open, who waits for a result waits for ever, and nobody can close it later",
        "app.py",
        "            if self._opened == 0:\n                await held(self._close())\n",
        "            if self._opened == 0:\n                await self._close()\n",
        (f"{_OPENING}test_a_close_closes_all_however_often_it_is_cancelled",),
    ),
    Mutant(
        "a pool whose opening is cancelled again and again stays open",
        "its connections are nobody's, until the server is full of them",
        "connections.py",
        "            await held(self.pool.close())\n",
        "            await self.pool.close()\n",
        (f"{_OPENING}test_a_pool_leaves_nothing_open_however_often_its_opening_is_cancelled",),
    ),
    Mutant(
        "what a failed opening closes can be broken off by a cancellation",
        "the embedded server has a user until the process ends",
        "app.py",
        "        except BaseException:\n            await held(self._close())\n",
        "        except BaseException:\n            await self._close()\n",
        (f"{_OPENING}test_an_opening_leaves_nothing_open_however_often_it_is_cancelled",),
    ),
    Mutant(
        "a pool that can't be closed keeps the rest open",
        "the embedded server has a user until the process ends",
        "app.py",
        "        finally:\n            await in_own_thread(self._close_blocking, _CLOSES)\n",
        "        finally:\n            pass\n        await in_own_thread(self._close_blocking, _CLOSES)\n",
        (f"{_OPENING}test_what_else_is_open_is_closed_even_if_the_pool_could_not_be",),
    ),
    Mutant(
        "the pool of an event loop that has ended is closed in the next",
        "who closes gets a cancellation, and the embedded server has a user until the process ends",
        "app.py",
        "            if self._client.is_orphaned:\n                self._client.forget()\n            else:\n"
        "                await self._client.close()\n",
        "            await self._client.close()\n",
        (f"{_LOOPS}test_an_app_that_was_not_closed_can_be_closed_in_the_next_event_loop",),
    ),
    Mutant(
        "openings and closings wait for a lock of an event loop that has ended",
        "one of them raises that it is another's",
        "app.py",
        "        elif home is None or home.is_gone or not home.is_here:\n",
        "        elif home is None:\n",
        (
            f"{_LOOPS}test_an_app_that_was_not_closed_can_be_closed_in_the_next_event_loop",
            f"{_LOOPS}test_an_app_can_be_opened_at_once_from_many_places_in_one_event_loop_after_another",
        ),
    ),
    Mutant(
        "an app that is open in an event loop can be closed in another",
        "it is taken apart and not closed, and can't be closed any more where it was opened",
        "app.py",
        "and (self._opened or self._opening.locked()):\n            home.check(purpose)",
        "and (self._opened or self._opening.locked()):\n            home.check(purpose) if purpose == 'open' else None",
        (f"{_LOOPS}test_an_app_belongs_to_the_event_loop_that_opened_it",),
    ),
    Mutant(
        "an app that is just being opened in an event loop can be opened in another",
        "it is opened twice, and one of its pools is never closed",
        "app.py",
        "(self._opened or self._opening.locked())",
        "self._opened",
        (f"{_LOOPS}test_an_app_that_is_just_being_opened_belongs_to_its_event_loop",),
    ),
    Mutant(
        "a forked process takes its parent's event loop for a living one",
        "an app that is open in the parent can be opened in no child",
        "connections.py",
        "return self._loop.is_closed() or self._process_id != os.getpid()",
        "return self._loop.is_closed()",
        (f"{_LOOPS}test_a_process_forked_from_an_event_loop_opens_and_closes_the_app_for_itself",),
    ),
    Mutant(
        "an app that is opened again keeps what it held in an event loop that has ended",
        "the embedded server has a user until the process ends",
        "app.py",
        "                await held(in_own_thread(self._close_server, _CLOSES))\n",
        "",
        (f"{_LOOPS}test_an_app_that_was_not_closed_can_be_closed_in_the_next_event_loop",),
    ),
    Mutant(
        "who waits for a connection of a pool that is closed meanwhile takes no other",
        "a thread is told that the app is closed, which is open",
        "connections.py",
        "                if pool is closed:\n",
        "                if closed:\n",
        (f"{_BLOCKING}test_who_waits_for_a_connection_while_they_are_closed_gets_one_of_the_next",),
    ),
    Mutant(
        "the limit of calls is looked at once",
        "a call that begins beside another may wait for ever for a frozen server",
        "store/links.py",
        "                self._timer = loop.call_at(limit_at_seconds, self._look)\n                return\n",
        "                return\n",
        ("tests/store/test_links.py::test_each_of_many_blocks_has_its_limit",),
    ),
    Mutant(
        "counts below zero count",
        "the outcome of a job whose row somebody has changed is never written",
        "core/decide.py",
        "            max(0, scheduler_retries),",
        "            scheduler_retries,",
        ("tests/faults/inputs/test_malformed_rows.py::test_a_count_below_zero_is_nothing_spent",),
    ),
    Mutant(
        "a start doesn't make its band known",
        "its job isn't claimed before somebody looks for such bands",
        "store/queries/start.sql",
        "then {schema}.add_band(%(queue)s::text, %(priority)s::smallint) is null end",
        "then false end",
        (
            "tests/store/test_claim_band.py::test_it_takes_nothing_and_tells_when_there_is_another_band_of_the_workers_queues",
            "tests/worker/test_bands.py::test_the_first_job_of_another_band_runs_at_once",
        ),
    ),
    Mutant(
        "anybody may use the schema's types",
        "who only starts jobs can hold up a migration",
        "store/migrations/roles.sql",
        "select format('revoke all on domain %s from public', pg_type.oid::regtype)",
        "select format('revoke all on domain %s from current_user', pg_type.oid::regtype)",
        ("tests/faults/rights/test_roles.py::test_what_a_role_is_not_for_is_refused",),
    ),
    Mutant(
        "a scan that has failed counts what it has waited for",
        "lost jobs wait for a minute",
        "worker/rescuer.py",
        "            began_seconds = time.monotonic()\n            return await calls.run(connection, call)\n",
        "            return await calls.run(connection, call)\n",
        ("tests/worker/test_sweeps.py::test_a_scan_that_took_long_isnt_made_again_soon_even_if_it_has_failed",),
    ),
    Mutant(
        "the answers of a pipeline aren't waited for",
        "a start raises, and its job is stored all the same",
        "store/calls.py",
        "return cursor.rownumber is not None or cursor.connection.pgconn.pipeline_status != PipelineStatus.OFF",
        "return cursor.rownumber is not None",
        (
            f"{_PIPELINES}test_in_a_pipeline_all_is_answered_and_stored_once",
            f"{_PIPELINES}test_in_a_sync_pipeline_all_is_answered_and_stored_once",
        ),
    ),
    Mutant(
        "a pipeline isn't taken for a transaction",
        "an event by query commits what the caller's pipeline has done, and may roll back",
        "connections.py",
        " or pgconn.pipeline_status != PipelineStatus.OFF",
        "",
        (
            f"{_PIPELINES}test_a_send_by_query_shares_the_fate_of_the_callers_pipeline",
            f"{_PIPELINES}test_a_send_by_query_shares_the_fate_of_the_callers_sync_pipeline",
            f"{_PIPELINES}test_in_a_pipeline_of_a_stricter_isolation_a_query_finds_its_job",
        ),
    ),
    Mutant(
        "a handler's rows and cursors stay on its connection",
        "other handlers get other rows than they ask for",
        "pools.py",
        "        conn.row_factory, conn.cursor_factory, conn.server_cursor_factory = tuple_row, AsyncCursor, "
        "AsyncServerCursor\n",
        "",
        (f"{_TRANSACTION}test_rows_and_cursors_that_a_handler_sets_on_its_connection_are_its_own",),
    ),
    Mutant(
        "a def handler's rows and cursors stay on its connection",
        "other handlers get other rows than they ask for",
        "pools.py",
        "        conn.row_factory, conn.cursor_factory, conn.server_cursor_factory = tuple_row, Cursor, ServerCursor\n",
        "",
        (f"{_TRANSACTION}test_rows_and_cursors_that_a_def_handler_sets_on_its_connection_are_its_own",),
    ),
    Mutant(
        "a connection is tried by whatever cursor it has",
        "what somebody has set on it is raised by a later start, or is taken for a pooler",
        "store/sessions.py",
        "cursor = AsyncCursor(connection, row_factory=tuple_row)",
        "cursor = connection.cursor()",
        (
            "tests/store/test_sessions.py::test_whose_the_session_is_is_told_whatever_rows_and_cursors_its_connection_has",
        ),
    ),
    Mutant(
        "a sync connection is tried by whatever cursor it has",
        "what somebody has set on it is raised by a later start, or is taken for a pooler",
        "store/sessions.py",
        "cursor = Cursor(connection, row_factory=tuple_row)",
        "cursor = connection.cursor()",
        (
            "tests/store/test_sessions.py::test_whose_the_session_is_is_told_whatever_rows_and_cursors_its_connection_has",
        ),
    ),
    Mutant(
        "a job that can't be read spoils the results that are read with it",
        "a hundred who wait for results are told of one job that isn't theirs",
        "gathering.py",
        "if not isinstance(error, PayloadUndecodable) or len(answers) == 1:",
        "if error:",
        (f"{_ENCODINGS}test_what_the_apps_own_connections_cant_hold_is_said_to_be_unreadable_and_spoils_no_other",),
    ),
    Mutant(
        "what an encoding can't hold of what is stored is the driver's error",
        "who catches what perdure raises doesn't catch it, and isn't told what to do",
        "store/refusals.py",
        "except (UnicodeEncodeError, psycopg.errors.UntranslatableCharacter) as error:",
        "except UnicodeEncodeError as error:",
        (
            f"{_ENCODINGS}test_what_the_apps_own_connections_cant_hold_is_said_to_be_unreadable_and_spoils_no_other",
            f"{_ENCODINGS}test_what_the_callers_connection_cant_hold_is_said_to_be_unreadable",
        ),
    ),
    Mutant(
        "what an encoding can't hold is the driver's error",
        "who catches what perdure raises doesn't catch it, and isn't told what to do",
        "store/refusals.py",
        'if encoding is None or encoding == b"UTF8":',
        "if isinstance(error, UnicodeEncodeError):",
        (
            f"{_ENCODINGS}test_what_the_callers_connection_cant_hold_is_refused_and_not_stored",
            f"{_ENCODINGS}test_what_the_callers_sync_connection_cant_hold_is_refused_and_not_stored",
        ),
    ),
)
