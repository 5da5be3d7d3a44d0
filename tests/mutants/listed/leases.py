"""Leases: who has one, who has lost it, who finds that out, and whom a loss is counted against."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["LEASES"]

_STORE = "tests/store/test_leases.py::"
_HEARTBEAT = "worker/heartbeat.py"
_TRAPS = "tests/worker/test_traps.py::"
_CANT_RENEW = f"{_TRAPS}test_a_worker_that_cant_renew_stops_its_handlers_before_the_lease_ends_and_registers_anew"
_LOST = "tests/worker/test_lost_commit.py::"
_DECIDE = "tests/unit/test_decide.py::"

LEASES = (
    Mutant(
        "a sweep that decides by what it saw before the lock",
        "a lease that was renewed in between is taken away",
        "store/queries/sweep.sql",
        "    )) and (lease_until <= clock_timestamp() or timeline <> {schema}.timeline())",
        "    )) and (lease_until is not null)",
        (f"{_STORE}test_a_renewal_that_came_between_a_sweeps_snapshot_and_its_lock_keeps_its_lease[18]",),
        # The lock asks again, too, but of the row alone, not of what a subquery has found.
        more=(
            Edit(
                "store/queries/sweep.sql",
                "        where lapsed_at is null and (lease_until <= clock_timestamp() or "
                "timeline <> {schema}.timeline())\n",
                "        where id = any(array(select id from {schema}.workers where lapsed_at is null and "
                "lease_until <= clock_timestamp()))\n",
            ),
        ),
    ),
    Mutant(
        "a sweep that waits for locked rows",
        "a renewal on its way holds up the sweep, and then loses its lease",
        "store/queries/sweep.sql",
        "order by id for no key update skip locked\n    )) and",
        "order by id for no key update\n    )) and",
        (f"{_STORE}test_a_renewal_on_its_way_keeps_its_lease[18]",),
    ),
    Mutant(
        "a sweep that takes the beginning of its transaction for now",
        "what is lapsed is decided by an old time",
        "store/queries/sweep.sql",
        "        where lapsed_at is null and (lease_until <= clock_timestamp() or",
        "        where lapsed_at is null and (lease_until <= now() or",
        (f"{_STORE}test_a_sweep_goes_by_the_present_time_however_long_ago_its_transaction_began[18]",),
    ),
    Mutant(
        "a sweep that leaves leases of another life",
        "after a failover the jobs of the old life's workers aren't rescued",
        "store/queries/sweep.sql",
        "where lapsed_at is null and (lease_until <= clock_timestamp() or timeline <> {schema}.timeline())",
        "where lapsed_at is null and lease_until <= clock_timestamp()",
        ("tests/faults/test_time_lines.py::test_a_sweep_ends_the_leases_of_another_life_and_blames_nobody",),
    ),
    Mutant(
        "leases that lie far ahead",
        "the database's clock was set back: the dead hold their jobs for as long",
        "store/queries/sweep.sql",
        "            and lease_until > clock_timestamp() + (least",
        "            and false and lease_until > clock_timestamp() + (least",
        (f"{_STORE}test_a_lease_that_lies_too_far_ahead_is_cut[18]",),
    ),
    Mutant(
        "holders that have lapsed aren't found again",
        "the jobs of a claim that landed after the lapse are stuck for ever",
        "store/queries/sweep.sql",
        "    select id from {schema}.workers where lapsed_at is null\n    union all",
        "    select id from {schema}.workers\n    union all",
        (f"{_STORE}test_a_claim_that_landed_after_the_lapse_is_found[18]",),
    ),
    Mutant(
        "a lapsed lease is renewed",
        "two attempts may write to one job",
        "store/queries/renew_lease.sql",
        "lapsed_at is null and lease_until > clock_timestamp()",
        "true",
        (f"{_STORE}test_a_lapsed_lease_cannot_be_renewed_marked_or_not[18]",),
    ),
    Mutant(
        "a lease of another life is renewed",
        "after a failover a worker keeps jobs that may be others",
        "store/queries/renew_lease.sql",
        "\n    and timeline = {schema}.timeline()",
        "",
        ("tests/store/test_guards.py::test_a_write_is_guarded[renew_lease: a lease that is of another time line]",),
    ),
    Mutant(
        "the worker's clock decides leases",
        "a worker whose clock is wrong holds its jobs for a day, or for no time at all",
        "store/queries/renew_lease.sql",
        "set lease_until = clock_timestamp() + lease_seconds",
        "set lease_until = to_timestamp(%(now)s::float8) + lease_seconds",
        (f"{_STORE}test_a_lease_is_as_long_whatever_the_workers_clock_says",),
        more=(
            Edit(
                "store/leases.py",
                'Call(names.statements["renew_lease"], {"id": worker}, bool)',
                'Call(names.statements["renew_lease"], {"id": worker, "now": __import__("time").time()}, bool)',
            ),
        ),
    ),
    Mutant(
        "worker ids that are used again",
        "a worker that comes back holds what it had lost",
        _HEARTBEAT,
        "            worker_id = uuid.uuid4()\n",
        "            worker_id = uuid.uuid5(uuid.NAMESPACE_URL, str(os.getpid()))\n",
        (_CANT_RENEW,),
        more=(
            Edit(
                "store/queries/register_worker.sql",
                "%(concurrency)s, %(queues)s::text[], %(version)s)",
                "%(concurrency)s, %(queues)s::text[], %(version)s)\n"
                "on conflict (id) do update set lease_until = excluded.lease_until, lapsed_at = null, left_at = null",
            ),
        ),
    ),
    Mutant(
        "no self-fencing",
        "a worker that can't renew goes on while others run its jobs",
        _HEARTBEAT,
        "if worker_id is not None and time.monotonic() >= self._valid_until_seconds - self.margin_seconds:",
        "if worker_id is not None and time.monotonic() < 0:",
        (_CANT_RENEW,),
    ),
    Mutant(
        "self-fencing without a margin",
        "handlers unwind when another may run already",
        _HEARTBEAT,
        "if worker_id is not None and time.monotonic() >= self._valid_until_seconds - self.margin_seconds:",
        "if worker_id is not None and time.monotonic() >= self._valid_until_seconds:",
        (_CANT_RENEW,),
    ),
    Mutant(
        "a lease that lasts from the answer",
        "a slow answer makes a worker believe in its lease for too long",
        _HEARTBEAT,
        "            if renewed and self._worker_id == worker_id:\n"
        "                self._valid_until_seconds = sent_at_seconds + self._lease_seconds",
        "            if renewed and self._worker_id == worker_id:\n"
        "                self._valid_until_seconds = time.monotonic() + self._lease_seconds",
        ("tests/worker/test_heartbeat.py::test_a_lease_lasts_from_when_its_renewal_was_sent",),
    ),
    Mutant(
        "holds without a look at the clock",
        "a worker that has overslept its lease goes on writing",
        _HEARTBEAT,
        "        if time.monotonic() < self._valid_until_seconds:\n            return True",
        "        if self._valid_until_seconds >= 0:\n            return True",
        (
            "tests/worker/test_races.py::test_an_attempt_that_was_told_that_its_lease_is_lost_is_an_attempt_though_the_renewal_comes_after_all",
        ),
    ),
    Mutant(
        "holds that can come back",
        "a lease that somebody was told is lost is renewed",
        _HEARTBEAT,
        "        # Else a late renewal might keep jobs that nobody runs any more.\n        self._lose(",
        "        str(",
        (
            "tests/worker/test_races.py::test_an_attempt_that_was_told_that_its_lease_is_lost_is_an_attempt_though_the_renewal_comes_after_all",
        ),
    ),
    Mutant(
        "a loop that is blocked for good keeps its lease",
        "its jobs are stuck for ever",
        _HEARTBEAT,
        "if self._stalled_seconds > self._max_stall_seconds and",
        "if self._stalled_seconds < 0 and",
        (f"{_TRAPS}test_a_loop_that_is_blocked_for_good_ends_its_process_and_the_job_goes_on_elsewhere",),
    ),
    Mutant(
        "frozen time counts as a stall",
        "a process that was frozen ends itself when it wakes up",
        _HEARTBEAT,
        "step_seconds = min(now_seconds - self._checked_at_seconds, self._max_stall_seconds / 2)",
        "step_seconds = now_seconds - self._checked_at_seconds",
        ("tests/worker/test_heartbeat.py::test_time_in_which_the_whole_process_was_frozen_is_no_stall",),
    ),
    Mutant(
        "a renewal that waits for ever",
        "whoever takes the bytes and passes nothing on costs the lease",
        _HEARTBEAT,
        "if time.monotonic() - asked_at_seconds > self._lease_seconds / 3:",
        "if time.monotonic() - asked_at_seconds > self._lease_seconds * 300:",
        ("tests/worker/test_heartbeat.py::test_a_renewal_that_isnt_answered_is_made_over_another_connection",),
    ),
    Mutant(
        "a lane's transaction without a limit",
        "a process that is frozen in one keeps its jobs from being rescued",
        "store/sessions.py",
        '{"transaction_timeout": limit} if has_limit else {}',
        '{"transaction_timeout": "0"} if has_limit else {}',
        ("tests/store/test_sessions.py::test_a_lanes_transaction_lasts_no_longer_than_a_lease[a session of its own]",),
    ),
    Mutant(
        "a lane's transaction behind a pooler without a limit",
        "a process that is frozen in one keeps its jobs from being rescued",
        "store/sessions.py",
        '        settings["idle_in_transaction_session_timeout"] = limit\n',
        "        settings = PLANNER\n",
        ("tests/store/test_sessions.py::test_a_lanes_transaction_lasts_no_longer_than_a_lease[behind a pooler]",),
    ),
    Mutant(
        "a renewal behind a pooler without a limit",
        "a process that is frozen in one keeps its lease's row locked: it never lapses",
        _HEARTBEAT,
        '%s, true)", self._limit)',
        "%s, true)\", ['0'])",
        (
            "tests/worker/test_heartbeat.py::test_a_process_that_is_frozen_in_a_renewal_behind_a_pooler_keeps_its_row_locked_for_a_lease_at_most",
        ),
    ),
    Mutant(
        "an exchange that waits for ever",
        "a server that is frozen, or a proxy, keeps a lane for good",
        "worker/lane.py",
        "        # What takes longer is fenced by then: it isn't waited for, whatever is dead in between.\n"
        "        with cut_after(connection, self._owner.lease_seconds):",
        "        with cut_after(connection, 1e6):",
        (f"{_LOST}test_a_lane_that_hears_nothing_is_found_out_though_the_lease_is_renewed",),
    ),
    Mutant(
        "a lost lease that stops nobody",
        "handlers go on under a lease that others may have",
        "worker/worker.py",
        "        self.lost[worker_id] += [*unwritten, *self.executor.lose_lease(worker_id)]",
        "        self.lost[worker_id] += unwritten",
        (_CANT_RENEW,),
    ),
    Mutant(
        "a lease that isn't given back",
        "jobs that a stop couldn't settle wait for a lease; the worker looks alive",
        _HEARTBEAT,
        "        if worker_id is not None:\n            self._ask(connection, leases.remove",
        "        if worker_id is not None and not worker_id:\n            self._ask(connection, leases.remove",
        ("tests/worker/test_races.py::test_a_cancelled_stop_skips_the_grace_and_leaves_nothing_behind",),
    ),
    Mutant(
        "a worker that leaves takes its row along",
        "what it couldn't settle looks like the loss of a worker",
        "store/queries/remove_worker.sql",
        " and not exists (select from kept)",
        "",
        (f"{_STORE}test_a_worker_that_leaves_is_forgotten_when_it_holds_nothing_and_else_kept_as_one_that_left[18]",),
    ),
    Mutant(
        "a rescue that doesn't ask for the lapse",
        "jobs of a worker with a lease are taken away",
        "store/queries/lapsed_jobs.sql",
        "\n    and not exists (select from {schema}.workers where workers.id = %(worker)s and lapsed_at is null)",
        "",
        (f"{_STORE}test_lapsed_jobs_tell_what_a_rescue_is_decided_by[18]",),
    ),
    Mutant(
        "no rescue",
        "jobs of lost workers are stuck for ever",
        "worker/rescuer.py",
        "        for lost in sweep.lost:\n            await self._rescue(lost, worker_id)\n",
        "",
        ("tests/worker/test_races.py::test_a_worker_that_stopped_by_itself_is_no_lapse_of_the_jobs_it_couldnt_settle",),
    ),
    Mutant(
        "a rescue that counts no lapse",
        "a poison job takes down every worker in turn",
        "worker/rescuer.py",
        "                ever_reported=False,",
        "                ever_reported=True,",
        ("tests/worker/test_races.py::test_a_worker_that_stopped_by_itself_is_no_lapse_of_the_jobs_it_couldnt_settle",),
    ),
    Mutant(
        "a rescue that counts the lapse of a worker that has left",
        "a stop without the database fails jobs",
        "worker/rescuer.py",
        "ever_reported=ever_reported or job.has_left)",
        "ever_reported=ever_reported)",
        ("tests/worker/test_races.py::test_a_worker_that_stopped_by_itself_is_no_lapse_of_the_jobs_it_couldnt_settle",),
    ),
    Mutant(
        "a lapse is taken back that didn't count",
        "a poison job is given as many lives as its workers lose their lease",
        "store/queries/release.sql",
        "%(lapsed)s::boolean and (%(lapses)s::smallint[])[width_bucket(id, %(ids)s::bigint[])] > lapses",
        "%(lapsed)s::boolean",
        ("tests/store/test_release.py::test_a_lapse_that_does_not_count_can_not_be_taken_back",),
    ),
    Mutant(
        "a lapse that counts whatever was persisted",
        "a job that gets further each time fails for its workers",
        "core/decide.py",
        "    counts = not ending.persisted and not ending.ever_reported\n"
        "    lapses = 0 if ending.persisted else snapshot.lapses + counts",
        "    counts = not ending.ever_reported\n    lapses = snapshot.lapses + counts",
        (f"{_DECIDE}test_a_job_that_gets_further_in_every_attempt_may_lose_any_number_of_workers",),
    ),
    Mutant(
        "one lapse more than allowed",
        "a poison job takes down one worker more",
        "core/decide.py",
        "failed = counts and lapses >= limits.max_lapses",
        "failed = counts and lapses > limits.max_lapses",
        (f"{_DECIDE}test_after_max_lapses_in_a_row_the_job_fails_so_that_it_cant_take_down_every_worker",),
    ),
    Mutant(
        "no suspects",
        "neighbours of a poison job fall with it",
        "core/decide.py",
        "suspect=not failed and lapses >= max(limits.max_lapses - 1, 1),",
        "suspect=False,",
        (f"{_DECIDE}test_at_its_last_allowed_lapse_a_job_is_a_suspect",),
    ),
    Mutant(
        "a lapse of which nothing was persisted looks like progress",
        "a poison job is never found out",
        "store/queries/lapsed_jobs.sql",
        "checkpoint > claim_checkpoint,",
        "checkpoint >= claim_checkpoint,",
        (f"{_STORE}test_lapsed_jobs_tell_what_a_rescue_is_decided_by[18]",),
    ),
    Mutant(
        "suspects in the common line",
        "a poison job takes its neighbours along",
        "store/queries/claim.sql",
        """not jobs.suspect
                    and jobs.queue = band.queue""",
        """true
                    and jobs.queue = band.queue""",
        ("tests/store/test_claim.py::test_suspects_are_claimed_apart_and_one_by_one",),
    ),
    Mutant(
        "several suspects at once",
        "a poison job takes another suspect along",
        "worker/slots.py",
        "return len(self.running) < self._concurrency and not self.has_suspect(ahead)",
        "return len(self.running) < self._concurrency",
        ("tests/worker/test_slots.py::test_one_suspect_runs_at_a_time",),
    ),
    Mutant(
        "an upgrade that counts as progress",
        "a poison job of older code is never found out",
        "store/queries/upgrade.sql",
        ",\n    claim_checkpoint = claim_checkpoint + 1",
        "",
        ("tests/store/test_running.py::test_an_upgrade_writes_both_payloads_as_a_checkpoint_that_is_no_progress",),
    ),
)
