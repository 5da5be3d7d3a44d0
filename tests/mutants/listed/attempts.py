"""What a handler sees and does: its checkpoint, its transactions, events, steps, and how it is stopped."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["ATTEMPTS"]

_TRANSACTION = "tests/worker/test_transaction.py::"
_SILENCE = "tests/faults/network/test_silence.py::"
_COMMIT = "tests/worker/test_commit_message.py::"
_EVENTS = "tests/worker/test_events.py::"
_PROMISES = "tests/worker/test_promises.py::"
_STOPPING = "tests/worker/test_stopping.py::"
_UNITS = "tests/worker/test_units.py::"
_OUTCOMES = "tests/worker/test_outcomes.py::"

ATTEMPTS = (
    Mutant(
        "a roll-back leaves the checkpoint",
        "a checkpoint claims rows that were rolled back",
        "transaction.py",
        "                        await self._roll_back()\n                        self._undo()",
        "                        await self._roll_back()",
        (f"{_TRANSACTION}test_leaving_without_a_commit_puts_the_same_object_back",),
    ),
    Mutant(
        "a COMMIT that fails leaves the checkpoint",
        "a checkpoint claims rows that were rolled back",
        "transaction.py",
        "                self._attempt.wrote(entry)\n                return\n            await self._roll_back()\n"
        "            self._undo()",
        "                self._attempt.wrote(entry)\n                return\n            await self._roll_back()",
        (f"{_TRANSACTION}test_a_deferred_constraint_that_fails_at_commit_rolls_both_back",),
    ),
    Mutant(
        "a cancellation cuts a COMMIT off",
        "whether it was done isn't known, and not asked",
        "transaction.py",
        "        await held(self._end(commits=error is None))",
        "        await self._end(commits=error is None)",
        (f"{_PROMISES}test_a_cancellation_while_the_commit_is_on_its_way_is_held_until_the_answer_is_known",),
    ),
    Mutant(
        "the fence and the COMMIT are two messages",
        "a process that is frozen in between holds its job's row for ever",
        "store/transactions.py",
        "        await connection.wait(_send(connection, text))\n",
        "        await connection.wait(_send(connection, text.removesuffix(_COMMIT)))\n"
        '        await connection.wait(_send(connection, b"commit"))\n',
        (f"{_COMMIT}test_the_fence_and_the_commit_are_one_message",),
    ),
    Mutant(
        "a checkpoint's text isn't quoted",
        "what a payload says is run by the server",
        "store/transactions.py",
        "bytes(escaping.escape_literal(text.encode()))",
        "b\"'%s'\" % text.encode()",
        (f"{_COMMIT}test_the_texts_of_a_checkpoint_are_quoted",),
    ),
    Mutant(
        "a checkpoint's text is sent in UTF-8 always",
        "another text is stored where the handler has set another encoding",
        "store/transactions.py",
        'connection.pgconn.parameter_status(b"client_encoding") != b"UTF8"',
        'connection.pgconn.parameter_status(b"client_encoding") is None',
        (f"{_COMMIT}test_the_texts_of_a_checkpoint_are_quoted",),
    ),
    Mutant(
        "a checkpoint that the encoding can't hold stays",
        "a checkpoint claims rows that were rolled back",
        "transaction.py",
        "except PayloadRefused:  # nothing was sent\n            await self._roll_back()\n            self._undo()\n",
        "except PayloadRefused:\n            await self._roll_back()\n",
        (f"{_COMMIT}test_a_checkpoint_that_the_encoding_cant_hold_is_refused_and_rolled_back_with_its_rows",),
    ),
    Mutant(
        "no time-out in a block",
        "a frozen process holds the locks of the user's rows for ever",
        "store/transactions.py",
        'return b"begin; set local idle_in_transaction_session_timeout = %d" % time_out_milliseconds(idle_seconds)',
        'return b"begin -- %d" % time_out_milliseconds(idle_seconds)',
        (f"{_TRANSACTION}test_a_frozen_block_holds_locks_no_longer_than_a_lease",),
    ),
    Mutant(
        "a handler's COMMIT is waited for without end",
        "behind a proxy that passes nothing on, its job is stuck as long as its worker lives",
        "worker/executor.py",
        "            attempt.cut_if_silent(self._port.lease_seconds)\n",
        "            pass\n",
        (f"{_SILENCE}test_a_silent_transaction_is_left_after_a_lease",),
    ),
    Mutant(
        "a commit by hand counts as the block's",
        "rows and checkpoint don't commit together, and nobody says so",
        "transaction.py",
        "        if status is TransactionStatus.IDLE:",
        "        if status is None:",
        (f"{_TRANSACTION}test_a_commit_by_hand_inside_the_block_is_refused",),
    ),
    Mutant(
        "persist() inside a transaction",
        "a checkpoint claims rows that may yet be rolled back",
        "context.py",
        '        attempt.check_not_in_transaction("persist()")\n        async with attempt.writing:\n'
        "            attempt.check_may_write()\n"
        '            attempt.check_not_in_transaction("persist()")  # another',
        "        async with attempt.writing:\n            attempt.check_may_write()\n            # another",
        (f"{_TRANSACTION}test_persist_inside_a_transaction_is_refused",),
    ),
    Mutant(
        "checkpoints of one attempt side by side",
        "two take one number, and one of them is lost",
        "attempt.py",
        "        if self.write_lock is None:\n            self.write_lock = asyncio.Lock()\n",
        "        self.write_lock = asyncio.Lock()\n",
        ("tests/worker/test_steps.py::test_steps_at_the_same_time_are_all_kept",),
    ),
    Mutant(
        "an outcome doesn't wait for a checkpoint on its way",
        "it names the wrong predecessor, and drops what was persisted",
        "worker/executor.py",
        "                if attempt.write_lock is not None:\n                    await attempt.settle_writing()",
        "                pass",
        (f"{_UNITS}test_an_outcome_follows_a_persist_that_is_on_its_way",),
    ),
    Mutant(
        "a stop keeps what was begun with an event",
        "an event that is delivered again is counted twice",
        "worker/endings.py",
        "                encoded = attempt.encode_when_stopped()",
        "                encoded = attempt.encode_at_end()",
        (f"{_EVENTS}test_a_stop_undoes_the_event_and_what_was_changed_after_it",),
    ),
    Mutant(
        "an outcome consumes nothing",
        "an event that was used comes again",
        "worker/endings.py",
        "attempt.changed_at_end(), attempt.used_at_end()\n        return Verdict(",
        "attempt.changed_at_end(), ()\n        return Verdict(",
        (f"{_EVENTS}test_an_outcome_consumes_the_event_a_failure_too",),
    ),
    Mutant(
        "a value consumes nothing",
        "an event that was used is found unread, and by an operator's retry used again",
        "worker/executor.py",
        "checkpoint, events = attempt.changed_at_end(), attempt.used_at_end()",
        "checkpoint, events = attempt.changed_at_end(), ()",
        (f"{_EVENTS}test_a_value_consumes_its_event_too",),
    ),
    Mutant(
        "a persist consumes nothing",
        "an event that was used comes again",
        "attempt.py",
        "return Persist(self.job.id, self.job.claim, self.checkpoint, data, self.handed)",
        "return Persist(self.job.id, self.job.claim, self.checkpoint, data, ())",
        (f"{_EVENTS}test_a_persist_consumes_the_event_so_that_the_next_attempt_does_not_see_it",),
    ),
    Mutant(
        "a step consumes the event",
        "an event is used up by what may yet be undone",
        "attempt.py",
        "return Persist(self.job.id, self.job.claim, self.checkpoint, data, (), ((key, result),))",
        "return Persist(self.job.id, self.job.claim, self.checkpoint, data, self.handed, ((key, result),))",
        (f"{_UNITS}test_an_event_is_not_used_up_by_a_step_or_a_sleep_between_it_and_its_use",),
    ),
    Mutant(
        "an event is given twice",
        "two tasks of a handler count it twice",
        "attempt.py",
        "        self.handed += (event_id,)",
        "        self.handed = (event_id,)",
        (f"{_EVENTS}test_events_come_in_order_typed_and_kept_when_sent_before_the_first_run",),
    ),
    Mutant(
        "steps of earlier attempts aren't read",
        "what was done is done again",
        "context.py",
        "await self._port.steps(attempt) if attempt.job.attempt > 1 else {}",
        "await self._port.steps(attempt) if attempt.job.attempt > 2 else {}",
        ("tests/worker/test_steps.py::test_a_step_is_called_once_and_its_typed_result_kept_for_later_attempts",),
    ),
    Mutant(
        "a stop cuts a step's write off",
        "a step that was done is done again",
        "context.py",
        "        await held(self._store_step(key, data))",
        "        await self._store_step(key, data)",
        (f"{_UNITS}test_parallel_steps_that_have_ended_are_all_kept_when_a_stop_comes",),
    ),
    Mutant(
        "a stop leaves a persist that is on its way",
        "the outcome names the wrong predecessor",
        "worker/port.py",
        "            except asyncio.CancelledError as error:\n                cancelled = error\n",
        "            except asyncio.CancelledError:\n                raise\n",
        ("tests/worker/test_units.py::test_a_stop_is_held_until_it_is_known_whether_a_persist_was_written",),
    ),
    Mutant(
        "a raise keeps what wasn't persisted",
        "a retry goes on from what broke off in the middle",
        "worker/endings.py",
        "            attempt, ending, keep_checkpoint=False, error=encode_raised(raised),",
        "            attempt, ending, keep_checkpoint=True, error=encode_raised(raised),",
        (f"{_OUTCOMES}test_a_raise_drops_what_wasnt_persisted_and_is_retried",),
        more=(Edit("core/decide.py", "not isinstance(ending, Raise | Deadline | Lapse)", "bool(ending)"),),
    ),
    Mutant(
        "who was left behind is waited for",
        "a handler that ignores its stop holds its job for ever",
        "worker/executor.py",
        "        self._arm(attempt, self._owner.cancel_grace_seconds, lambda: self._leave_behind(attempt))",
        "        self._arm(attempt, 1e6, lambda: self._leave_behind(attempt))",
        (f"{_STOPPING}test_a_handler_that_ignores_its_cancel_is_left_behind_and_fenced",),
    ),
    Mutant(
        "what was left behind is kept as it stands",
        "a checkpoint from the middle of what goes on",
        "worker/executor.py",
        "verdict = self._owner.rules.stopped(attempt, reason, keep_checkpoint=False)",
        "verdict = self._owner.rules.stopped(attempt, reason, keep_checkpoint=True)",
        (f"{_OUTCOMES}test_a_handler_that_ignores_shutdown_is_left_behind",),
    ),
    Mutant(
        "the outcome of a lost lease is kept",
        "a handler that ended as its lease was lost is told to have done so",
        "worker/executor.py",
        "        if attempt.closed or attempt.stop_reason is StopReason.LEASE_LOST:\n            self._drop(attempt)\n"
        "            return\n        owner",
        "        if attempt.closed:\n            self._drop(attempt)\n            return\n        owner",
        ("tests/worker/test_slots.py::test_what_ends_under_a_lease_that_is_lost_has_no_outcome",),
    ),
    Mutant(
        "a cancellation of anybody is a shutdown",
        "a handler that cancels itself is run for ever",
        "worker/executor.py",
        "        if isinstance(error, asyncio.CancelledError) and reason is not None:\n"
        "            verdict = rules.stopped(attempt, reason, keep_checkpoint=True)",
        "        if isinstance(error, asyncio.CancelledError):\n"
        "            verdict = rules.stopped(attempt, reason or StopReason.SHUTDOWN, keep_checkpoint=True)",
        (f"{_STOPPING}test_a_cancellation_that_isnt_ours_is_a_raise",),
    ),
    Mutant(
        "a commit that a wrong clock has refused is a raise",
        "a job fails, without any fault of its own",
        "worker/executor.py",
        "        elif endings.is_refused(attempt, error):",
        "        elif endings.is_refused(attempt, error) and reason is not None:",
        (
            "tests/worker/test_refused_commits.py::test_an_attempt_whose_commit_is_refused_by_a_clock_that_was_ahead_for_a_moment_spends_no_retry",
        ),
    ),
    Mutant(
        "the last stop's reason counts",
        "a job whose cancel came first is put back by a shutdown",
        "worker/executor.py",
        "        if attempt.stop_reason is not None and reason is not StopReason.LEASE_LOST:\n            return\n",
        "",
        (f"{_STOPPING}test_of_two_stops_the_first_counts",),
    ),
    Mutant(
        "a cancel doesn't reach a running job",
        "it runs on to its end",
        "worker/executor.py",
        "            self.stop(attempt, StopReason.CANCEL)\n            return",
        "            return",
        (f"{_STOPPING}test_a_cancel_ends_a_running_job_promptly_with_its_checkpoint_and_the_reason",),
    ),
    Mutant(
        "a thread isn't told of a stop",
        "a def handler goes on after its cancel",
        "attempt.py",
        "        if self.stop_reason is not None:\n            raise asyncio.CancelledError",
        "        if self.stop_reason is None and self.closed:\n            raise asyncio.CancelledError",
        (f"{_STOPPING}test_a_def_handler_learns_of_a_cancel_at_its_next_call_of_the_context",),
    ),
    Mutant(
        "no deadline while a job runs",
        "it runs on past its deadline",
        "worker/executor.py",
        "            self._arm(attempt, job.deadline_seconds, lambda: self.stop(attempt, StopReason.DEADLINE))",
        "            pass",
        (f"{_STOPPING}test_a_deadline_ends_a_running_job",),
    ),
    Mutant(
        "a job past its deadline is begun",
        "it does what nobody wants any more",
        "worker/executor.py",
        "if job.deadline_seconds is not None and job.deadline_seconds <= 0:",
        "if job.deadline_seconds is not None and job.deadline_seconds <= -1e9:",
        (f"{_STOPPING}test_a_job_past_its_deadline_is_not_begun",),
    ),
    Mutant(
        "no deadline while a job waits",
        "it waits for ever",
        "worker/rescuer.py",
        "        if sweep.deadline_due:\n            await self._expire()\n",
        "",
        (f"{_STOPPING}test_a_deadline_ends_a_suspended_job_and_tells_who_waits",),
    ),
    Mutant(
        "no time-out",
        "an attempt that hangs hangs for ever",
        "worker/executor.py",
        "            self._arm(attempt, task.options.timeout.total_seconds(), lambda: self.stop("
        "attempt, StopReason.TIMEOUT))",
        "            pass",
        (f"{_OUTCOMES}test_past_its_timeout_is_a_raise",),
    ),
    Mutant(
        "what can't be read ends the worker's claim",
        "one row that can't be decoded stops its worker",
        "worker/executor.py",
        "        except Exception as error:  # noqa: BLE001 - also of the user's classes",
        "        except ZeroDivisionError as error:  # also of the user's classes",
        ("tests/worker/test_neighbours.py::test_payloads_that_cant_be_looked_at_let_their_job_wait",),
    ),
    Mutant(
        "context variables of the attempt before",
        "a job sees what another has set",
        "worker/eager.py",
        "eager_start=True)\n        return self.start_later(run)",
        "eager_start=True)\n        return self._loop.create_task(run)",
        ("tests/worker/test_apart.py::test_context_variables_are_the_jobs_own",),
    ),
    Mutant(
        "a place of a thread that couldn't start is lost",
        "one by one all places go, and def jobs are never run again",
        "worker/threads.py",
        "# the system has no thread left\n            self.give_back()\n            raise",
        "# the system has no thread left\n            raise",
        ("tests/worker/test_neighbours.py::test_a_thread_that_cant_start_leaves_its_place_free",),
    ),
)
