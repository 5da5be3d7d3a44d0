"""Conditions of the writes: who may write, what must still be so. `test_guard_mutants.py` takes out every one."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["WRITES"]

_CLAIM = "\n    and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]"
_CLAIM_DEEPER = "\n        and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]"
_CHECKPOINT = "\n        and checkpoint = (%(checkpoints)s::int[])[width_bucket(id, %(ids)s::bigint[])]"
_LEASE = "lapsed_at is null and lease_until > clock_timestamp()"
_TIME_LINE = "\n                and timeline = {schema}.timeline()"
_FENCE = "store/migrations/001_jobs.sql"


def _guards(*cases: str) -> tuple[str, ...]:
    return tuple(f"tests/store/test_guards.py::test_a_write_is_guarded[{case}]" for case in cases)


def _claim(write: str, before: str) -> Mutant:
    return Mutant(
        f"{write} without the claim's number",
        "a zombie's write lands in a later attempt",
        f"store/queries/{write}.sql",
        before,
        "",
        _guards(f"{write}: an earlier claim"),
    )


WRITES = (
    _claim("finish", _CLAIM_DEEPER),
    _claim("release", _CLAIM_DEEPER),
    _claim("persist", _CLAIM_DEEPER),
    _claim("put_back", _CLAIM),
    _claim("defer", _CLAIM),
    _claim("report_progress", _CLAIM),
    _claim("upgrade", "\n    and claim = %(claim)s::int"),
    _claim("begin_sleep", "\n        and claim = %(claim)s::int"),
    _claim("take_checkpoint_number", "\n    and claim = %(claim)s::int"),
    Mutant(
        "fence without the claim's number",
        "a zombie commits inside ctx.transaction()",
        _FENCE,
        "\n        and claim = token",
        "",
        _guards("fence: an earlier claim"),
    ),
    Mutant(
        "fence without the worker",
        "a worker commits for another",
        _FENCE,
        "\n        and worker_id is not distinct from holder",
        "",
        _guards("fence: another worker"),
    ),
    Mutant(
        "fence without the checkpoint's number",
        "a COMMIT that was found not to have landed lands after all",
        _FENCE,
        "\n        and checkpoint = predecessor",
        "",
        ("tests/store/test_checkpoints.py::test_a_commit_that_arrives_after_its_number_was_taken_is_aborted",),
    ),
    Mutant(
        "fence without the lease",
        "a worker whose lease has run out commits",
        _FENCE,
        "workers.id = holder and lapsed_at is null and lease_until > clock_timestamp()",
        "workers.id = holder",
        _guards("fence: a lease that has run out, unmarked"),
    ),
    Mutant(
        "fence without the time line",
        "after a failover a worker commits for a job of another life",
        _FENCE,
        "\n                and timeline = timeline()",
        "",
        _guards("fence: a lease that is of another time line"),
    ),
    Mutant(
        "fence that raises nothing",
        "a zombie's rows are committed without its checkpoint",
        _FENCE,
        "    if not found then\n        -- In another isolation",
        "    if not found then\n        return false;\n        -- In another isolation",
        ("tests/worker/test_transaction.py::test_a_zombie_cant_commit_nor_persist",),
    ),
    Mutant(
        "persist without the checkpoint's number",
        "a late copy of a persist puts a newer checkpoint back",
        "store/queries/persist.sql",
        _CHECKPOINT,
        "",
        ("tests/store/test_checkpoints.py::test_a_checkpoint_of_an_abandoned_persist_cannot_undo_a_newer_one",),
    ),
    Mutant(
        "finish without the checkpoint's number",
        "an outcome puts a newer checkpoint back",
        "store/queries/finish.sql",
        _CHECKPOINT,
        "",
        _guards("finish: an earlier checkpoint"),
    ),
    Mutant(
        "persist without the state",
        "a rescued job is written to before its next claim",
        "store/queries/persist.sql",
        "\n        and state = 2",
        "",
        _guards("persist: a job in state 0"),
    ),
    Mutant(
        "finish without the worker",
        "a worker ends another's attempt",
        "store/queries/finish.sql",
        "\n        and worker_id is not distinct from %(worker)s",
        "",
        _guards("finish: another worker"),
    ),
    Mutant(
        "finish without the lease",
        "a worker whose lease has run out ends a job",
        "store/queries/finish.sql",
        f"workers.id = %(holder)s and {_LEASE}",
        "workers.id = %(holder)s",
        _guards("finish: a lease that has run out, unmarked", "finish: a lease that is marked as lapsed"),
    ),
    Mutant(
        "release that asks for the lost worker's lease in a rescue",
        "nobody can rescue a job; or the holder of no lease does",
        "store/settles.py",
        """        "holder": holder or worker,
        "lapsed": lapsed,""",
        """        "holder": worker,
        "lapsed": lapsed,""",
        _guards("release: a rescue by a worker with a lease"),
    ),
    Mutant(
        "finish without the time line",
        "after a failover an outcome lands in a job of another life",
        "store/queries/finish.sql",
        _TIME_LINE,
        "",
        _guards("finish: a lease that is of another time line"),
    ),
    Mutant(
        "persist without the time line",
        "after a failover a checkpoint lands in a job of another life",
        "store/queries/persist.sql",
        _TIME_LINE,
        "",
        _guards("persist: a lease that is of another time line"),
    ),
    Mutant(
        "finish as failed whatever was requested",
        "a cancel that was answered is lost",
        "store/queries/finish.sql",
        "\n        and not (cancel_requested and (%(states)s::smallint[])[width_bucket(id, %(ids)s::bigint[])] = 7)",
        "",
        _guards("finish: a failure that doesn't know of a cancel request"),
    ),
    Mutant(
        "release whatever was requested",
        "a cancelled job is begun again",
        "store/queries/release.sql",
        "\n        and not cancel_requested",
        "",
        ("tests/worker/test_promises.py::test_after_a_cancel_request_every_end_but_a_value_cancels_the_job",),
    ),
    Mutant(
        "put_back whatever was requested",
        "a cancelled job is begun again",
        "store/queries/put_back.sql",
        "\n    and not cancel_requested",
        "",
        _guards("put_back: a cancel request"),
    ),
    Mutant(
        "persist whose events are consumed by whoever asks",
        "a refused checkpoint takes its events along",
        "store/queries/persist.sql",
        "\n        where used.job_id = any(array(select id from written))",
        "",
        _guards("persist: an earlier claim"),
    ),
    Mutant(
        "persist whose steps are stored by whoever asks",
        "a zombie's step is taken for done",
        "store/queries/persist.sql",
        "\n    where job_id = any(array(select id from written))",
        "",
        _guards("persist: an earlier claim"),
    ),
    Mutant(
        "events consumed by a statement after their checkpoint",
        "a refused outcome takes its events along",
        "store/queries/release.sql",
        "\n        where used.job_id = any(array(select id from released))",
        "",
        _guards("release: an earlier claim"),
    ),
    Mutant(
        "a transaction that consumes nothing",
        "an event whose rows are committed comes again",
        "transaction.py",
        "[running.consume(names, attempt.job.id, entry.events)] if entry.events else []",
        "[running.consume(names, attempt.job.id, entry.events)] if not names else []",
        ("tests/worker/test_events.py::test_a_transaction_consumes_the_event_with_its_rows_or_neither",),
    ),
    Mutant(
        "proceed with a modification of any checkpoint",
        "a modification undoes a checkpoint that it never saw",
        "store/queries/proceed.sql",
        "\n        and (%(checkpoint)s::int is null or found.checkpoint = %(checkpoint)s::int)",
        "",
        _guards("proceed: a modification of an earlier checkpoint"),
    ),
    Mutant(
        "cancel of whatever there is",
        "a running job is taken from under its attempt",
        "store/queries/cancel.sql",
        " and state in (0, 1, 3, 4, 5)",
        "",
        _guards("cancel: a running job"),
    ),
    Mutant(
        "retry of whatever has ended",
        "a retry afresh drops an end that it never saw",
        "store/queries/retry.sql",
        " and (%(attempt)s::int is null or attempt = %(attempt)s::int)",
        "",
        _guards("retry: another attempt than ended it"),
    ),
    Mutant(
        "put_back that keeps the attempt's number",
        "a claim that was never started counts as an attempt",
        "store/queries/put_back.sql",
        ", attempt = attempt - 1,",
        ",",
        ("tests/store/test_release.py::test_a_claim_that_is_put_back_leaves_no_trace_but_its_number",),
    ),
    Mutant(
        "put_back that gives the claim's number back",
        "a late copy of it hits a later claim",
        "store/queries/put_back.sql",
        ", attempt = attempt - 1,",
        ", attempt = attempt - 1, claim = claim - 1,",
        ("tests/store/test_release.py::test_a_claim_that_is_put_back_leaves_no_trace_but_its_number",),
    ),
    Mutant(
        "take_checkpoint_number by one",
        "a question that went unheard looks like the COMMIT that it asks for",
        "store/queries/take_checkpoint_number.sql",
        "set checkpoint = %(checkpoint)s::int + 2,",
        "set checkpoint = %(checkpoint)s::int + 1,",
        ("tests/worker/test_lost_commit.py::test_the_question_whether_a_commit_has_landed_may_itself_go_unheard",),
        more=(
            Edit(
                "store/queries/take_checkpoint_number.sql",
                "checkpoint in (%(checkpoint)s::int, %(checkpoint)s::int + 2)",
                "checkpoint = %(checkpoint)s::int",
            ),
        ),
    ),
    Mutant(
        "take_checkpoint_number as progress",
        "a lapse isn't counted, and retries come back, though nothing was stored",
        "store/queries/take_checkpoint_number.sql",
        "claim_checkpoint = claim_checkpoint + (%(checkpoint)s::int + 2 - checkpoint)",
        "claim_checkpoint = claim_checkpoint",
        ("tests/store/test_checkpoints.py::test_taking_a_number_is_no_progress_of_the_attempt",),
    ),
)
