"""Locks: who waits for whom, who steps over, and what may not be read before one is had."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["LOCKS"]

_WAKE_UPS = "tests/store/test_wake_ups.py::"
_EVENTS = "tests/worker/test_events.py::"
_SCHEMA = "store/migrations/001_jobs.sql"

LOCKS = (
    Mutant(
        "release under a lock that senders don't hold up",
        "a suspension and an event pass each other by: the job sleeps for ever",
        "store/queries/release.sql",
        "order by id for update skip locked",
        "order by id for no key update skip locked",
        (
            f"{_WAKE_UPS}test_a_suspension_steps_over_the_job_of_an_open_sender_and_comes_again",
            f"{_WAKE_UPS}test_a_sender_that_comes_between_the_suspensions_snapshot_and_its_lock_and_stays_open_holds_it_up",
        ),
    ),
    Mutant(
        "who is found for an event isn't held until that is stored",
        "an event goes to a job that its query doesn't name any more",
        "client.py",
        "    async with connection.transaction():\n        await connection.execute(step.setting)\n",
        "    if True:\n",
        ("tests/acceptance/test_client_send.py::test_a_job_that_a_query_finds_is_held_until_the_event_is_stored",),
    ),
    Mutant(
        "a sender without a lock",
        "a suspension and an event pass each other by: the job sleeps for ever",
        _SCHEMA,
        "where id = target and task = task_name for key share;",
        "where id = target and task = task_name;",
        (
            f"{_WAKE_UPS}test_a_suspension_steps_over_the_job_of_an_open_sender_and_comes_again",
            f"{_WAKE_UPS}test_a_sender_waits_for_a_suspension_on_its_way_and_wakes_the_job",
        ),
    ),
    Mutant(
        "a sender with an old snapshot and no lock",
        "it doesn't see the suspension: the job sleeps for ever",
        _SCHEMA,
        "where id = target and task = task_name for no key update;",
        "where id = target and task = task_name;",
        (f"{_WAKE_UPS}test_a_sender_with_an_old_snapshot_is_refused_and_has_sent_nothing",),
    ),
    Mutant(
        "finish that waits for locked rows",
        "one locked row holds up the outcomes of a whole batch",
        "store/queries/finish.sql",
        "order by id for update skip locked",
        "order by id for update",
        ("tests/store/test_batches.py::test_locked_rows_are_left_and_the_rest_of_the_batch_is_settled",),
    ),
    Mutant(
        "persist that waits for locked rows",
        "one locked row holds up the checkpoints of a whole batch",
        "store/queries/persist.sql",
        "order by id for no key update skip locked",
        "order by id for no key update",
        ("tests/store/test_batches.py::test_locked_rows_are_left_and_the_rest_of_the_batch_is_settled",),
    ),
    Mutant(
        "batches in any order",
        "two batches lock each other out; a row is taken for another's place",
        "store/settles.py",
        "    if not all(map(operator.le, ids, ids[1:])):",
        "    if not ids and not all(map(operator.le, ids, ids[1:])):",
        ("tests/store/test_batches.py::test_a_batch_that_is_not_sorted_is_refused",),
    ),
    Mutant(
        "batches that the desk doesn't sort",
        "two batches lock each other out",
        "worker/desk.py",
        "batch.finishes, self.finishes = sorted(self.finishes[:count], key=_id), self.finishes[count:]",
        "batch.finishes, self.finishes = self.finishes[:count], self.finishes[count:]",
        ("tests/worker/test_desk.py::test_a_batch_is_sorted_whatever_the_order_of_its_entries",),
    ),
    Mutant(
        "claim that waits for locked rows",
        "a row that somebody has locked stops all claims",
        "store/queries/claim.sql",
        "limit %(want)s::int\n                for no key update skip locked",
        "limit %(want)s::int\n                for no key update",
        ("tests/store/test_claim.py::test_a_claim_passes_over_locked_rows_without_waiting[18]",),
    ),
    Mutant(
        "claim without a lock",
        "a job that was cancelled between snapshot and lock is run",
        "store/queries/claim.sql",
        "limit %(want)s::int\n                for no key update skip locked",
        "limit %(want)s::int",
        (
            "tests/store/test_claim.py::test_a_claim_passes_over_locked_rows_without_waiting[18]",
            "tests/store/test_claim.py::test_several_claimers_at_once_share_all_jobs_and_no_job_twice",
        ),
    ),
    Mutant(
        "expire that waits for locked rows",
        "one locked row holds up the sweeps",
        "store/queries/expire.sql",
        "for update skip locked",
        "for update",
        ("tests/store/test_deadlines.py::test_a_job_that_somebody_has_locked_is_left_for_the_next_time",),
    ),
    Mutant(
        "expire without a lock",
        "a job that was claimed meanwhile is ended under its attempt",
        "store/queries/expire.sql",
        "\n        for update skip locked",
        "",
        ("tests/store/test_deadlines.py::test_a_job_that_is_claimed_or_postponed_meanwhile_does_not_expire",),
    ),
    Mutant(
        "a rescue that waits for locked rows",
        "a frozen process holds up the rescue of all",
        "store/queries/lapsed_jobs.sql",
        "for update skip locked",
        "for update",
        ("tests/store/test_leases.py::test_two_rescuers_share_the_jobs_of_a_lost_worker",),
    ),
    Mutant(
        "begin_sleep that waits for locked rows",
        "one locked row stops a lane, and with it all jobs",
        "store/queries/begin_sleep.sql",
        "for no key update skip locked",
        "for no key update",
        ("tests/worker/test_neighbours.py::test_a_lock_on_a_sleepers_row_holds_up_no_other_job",),
    ),
    Mutant(
        "take_checkpoint_number that waits for locked rows",
        "a COMMIT on its way stops a lane",
        "store/queries/take_checkpoint_number.sql",
        "for no key update skip locked",
        "for no key update",
        ("tests/store/test_checkpoints.py::test_taking_a_number_waits_for_the_commit_that_may_have_it",),
    ),
    Mutant(
        "settlement that takes a locked row for a free one",
        "what a COMMIT on its way will say is decided before it has",
        "store/queries/settlement.sql",
        "cancel_requested, proceed_requested, true",
        "cancel_requested, proceed_requested, false",
        ("tests/store/test_finish.py::test_settlement_tells_live_ended_and_locked_jobs_apart",),
    ),
    Mutant(
        "waiters that wait for locked rows",
        "one locked row holds up all who wait for results",
        "store/queries/await.sql",
        "order by id for no key update skip locked",
        "order by id for no key update",
        ("tests/acceptance/test_client_results.py::test_a_locked_row_holds_up_no_other_waiter",),
    ),
    Mutant(
        "hold without a lock",
        "an event is sent to a job that doesn't match its query any more",
        "store/queries/hold.sql",
        " for key share",
        "",
        ("tests/acceptance/test_client_send.py::test_the_one_job_of_a_query_must_still_match_once_it_is_held",),
    ),
    Mutant(
        "lock without a lock",
        "of eight modifications at once more than one is stored, or one is lost",
        "store/queries/lock.sql",
        "\nfor no key update",
        "",
        (
            "tests/acceptance/test_client_proceed_races.py::test_a_modification_works_on_what_is_stored_once_the_row_is_its_own",
        ),
    ),
    Mutant(
        "proceed without a lock",
        "its answer isn't what was decided by",
        "store/queries/proceed.sql",
        "\n    for no key update\n), due",
        "\n), due",
        (
            "tests/acceptance/test_client_proceed_races.py::test_a_job_that_is_claimed_while_its_row_is_waited_for_remembers_the_proceed",
        ),
    ),
    Mutant(
        "proceed that keeps the snapshot's worker",
        "one that waits for a suspension breaks a constraint",
        "store/queries/proceed.sql",
        "        worker_id = found.worker_id,\n",
        "",
        (
            "tests/acceptance/test_client_proceed_races.py::test_a_job_that_is_suspended_while_its_row_is_waited_for_proceeds",
        ),
    ),
    Mutant(
        "migrators without a lock",
        "two migrators apply a migration at once",
        "store/migrate.py",
        """                await cursor.execute("select pg_advisory_xact_lock(%s)", [names.advisory_key])\n""",
        "",
        ("tests/store/test_migrate.py::test_ten_migrators_at_once_apply_each_migration_once",),
    ),
    Mutant(
        "wake_unread without a lock",
        "an exchange waits for whoever has a job's row, and can deadlock with it",
        "store/queries/wake_unread.sql",
        "        order by id\n        for no key update skip locked",
        "        order by id",
        (f"{_WAKE_UPS}test_a_suspended_job_that_somebody_has_locked_is_left[18]",),
    ),
    Mutant(
        "check, then suspend",
        "an event that comes between the look and the suspension wakes nobody",
        "worker/sending.py",
        '    sent: dict[str, Call[Any]] = {"release": settles.release(names, worker_id, entries)}\n'
        "    waiting = [entry for entry in entries if entry.state in _WAITING and not entry.asleep]\n"
        "    if waiting:\n"
        '        sent["wake unread"] = settles.wake_unread(names, waiting)\n'
        "    return sent",
        "    sent: dict[str, Call[Any]] = {}\n"
        "    waiting = [entry for entry in entries if entry.state in _WAITING and not entry.asleep]\n"
        "    if waiting:\n"
        '        sent["wake unread"] = settles.wake_unread(names, waiting)\n'
        '    sent["release"] = settles.release(names, worker_id, entries)\n'
        "    return sent",
        (f"{_EVENTS}test_a_sender_whose_transaction_is_open_holds_up_no_checkpoint_and_loses_no_wake_up",),
    ),
    Mutant(
        "no look for unread events",
        "an event that came before the suspension wakes nobody",
        "worker/sending.py",
        '    if waiting:\n        sent["wake unread"]',
        '    if waiting and not waiting:\n        sent["wake unread"]',
        (f"{_EVENTS}test_a_sender_whose_transaction_is_open_holds_up_no_checkpoint_and_loses_no_wake_up",),
    ),
    Mutant(
        "a remembered proceed that is ignored",
        "a proceed between the decision to suspend and its write is lost",
        "store/queries/release.sql",
        "            proceed_requested\n            and (%(states)s",
        "            false\n            and (%(states)s",
        ("tests/worker/test_outcomes.py::test_a_proceed_while_the_job_runs_is_remembered",),
        more=(
            Edit(
                "core/decide.py",
                "    if snapshot.proceed_requested and not ending.asleep:",
                "    if snapshot.proceed_requested and ending.asleep:",
            ),
        ),
    ),
)
