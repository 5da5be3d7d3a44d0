"""What a write is guarded by against copies of itself that arrive late: all of it taken out, or what alone is left."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["LATE"]

_COPIES = "tests/faults/network/test_late_copies.py::test_a_late_copy_changes_nothing_of_a_job_that_runs"
_ZOMBIES = "tests/faults/network/test_late_zombies.py::"
_CLAIMS = "tests/faults/network/test_late_claims.py::"
_LATER = "in a later claim of the same worker"
_ANOTHER = "in a later claim of another worker"

_CLAIM = "\n        and claim = (%(claims)s::int[])[width_bucket(id, %(ids)s::bigint[])]"
_CHECKPOINT = "\n        and checkpoint = (%(checkpoints)s::int[])[width_bucket(id, %(ids)s::bigint[])]"
_WORKER = "\n        and worker_id is not distinct from %(worker)s"
_LEASE = "lapsed_at is null and lease_until > clock_timestamp()"
_FENCE = "store/migrations/001_jobs.sql"


def _without(what: str, file: str, *guards: str, breaks: str, tests: tuple[str, ...]) -> Mutant:
    """Take these conditions out of one statement."""
    first, *more = guards
    edits = tuple(Edit(file, guard, "") for guard in more)
    return Mutant(f"a late {what}", breaks, file, first, "", tests, more=edits)


def _of(statement: str) -> str:
    return f"store/queries/{statement}.sql"


def _shallow(guard: str) -> str:
    return guard.replace("\n        and", "\n    and")


LATE = (
    _without(
        "persist without its numbers and its worker",
        _of("persist"),
        _CLAIM,
        _CHECKPOINT,
        _WORKER,
        breaks="it puts back the checkpoint of a job that runs on",
        tests=(f"{_COPIES}[persist (persist twice) in its own claim]",),
    ),
    _without(
        "persist of a step without the checkpoint's number",
        _of("persist"),
        _CHECKPOINT,
        breaks="it puts back the checkpoint of a job that runs on",
        tests=(f"{_COPIES}[persist (step) in its own claim]",),
    ),
    _without(
        "persist of an earlier attempt without its numbers",
        _of("persist"),
        _CLAIM,
        _CHECKPOINT,
        breaks="it puts back the checkpoint of a later attempt",
        tests=(f"{_COPIES}[persist (persist and raise) {_LATER}]",),
    ),
    _without(
        "persist of another worker without its numbers",
        _of("persist"),
        _CLAIM,
        _CHECKPOINT,
        _WORKER,
        breaks="it puts back the checkpoint of another worker's attempt",
        tests=(f"{_COPIES}[persist (persist and raise) {_ANOTHER}]",),
    ),
    _without(
        "finish without the claim's number",
        _of("finish"),
        _CLAIM,
        breaks="it ends a job that an operator has taken back, and that runs",
        tests=(f"{_COPIES}[finish (return) {_LATER}]",),
    ),
    _without(
        "finish without the claim's number and its worker",
        _of("finish"),
        _CLAIM,
        _WORKER,
        breaks="it ends a job that an operator has taken back, and that another worker runs",
        tests=(f"{_COPIES}[finish (return) {_ANOTHER}]",),
    ),
    _without(
        "suspension without the claim's number",
        _of("release"),
        _CLAIM,
        breaks="it suspends a job that was let go on, and that runs",
        tests=(f"{_COPIES}[release (suspend) {_LATER}]",),
    ),
    _without(
        "retry without the claim's number",
        _of("release"),
        _CLAIM,
        breaks="it spends a retry of an attempt that runs, and lets it run twice",
        tests=(f"{_COPIES}[release (raise) {_LATER}]",),
    ),
    _without(
        "outcome without the claim's number and its worker",
        _of("release"),
        _CLAIM,
        _WORKER,
        breaks="it takes a job from the worker that runs it",
        tests=(f"{_COPIES}[release (suspend) {_ANOTHER}]", f"{_COPIES}[release (raise) {_ANOTHER}]"),
    ),
    _without(
        "COMMIT without its numbers",
        _FENCE,
        "\n        and claim = token",
        "\n        and checkpoint = predecessor",
        breaks="its rows are committed twice, or an older checkpoint with them",
        tests=(
            f"{_COPIES}[fence (commit twice) in its own claim]",
            f"{_COPIES}[fence (commit and raise) {_LATER}]",
        ),
    ),
    _without(
        "COMMIT of another worker without its numbers",
        _FENCE,
        "\n        and claim = token",
        "\n        and checkpoint = predecessor",
        "\n        and worker_id is not distinct from holder",
        breaks="its rows are committed beside another worker's",
        tests=(f"{_COPIES}[fence (commit and raise) {_ANOTHER}]",),
    ),
    _without(
        "report of progress without the claim's number",
        _of("report_progress"),
        _shallow(_CLAIM),
        breaks="a later attempt's progress goes back",
        tests=(f"{_COPIES}[report_progress (progress) {_LATER}]",),
    ),
    _without(
        "beginning of a sleep without the claim's number",
        _of("begin_sleep"),
        "\n        and claim = %(claim)s::int",
        breaks="a job that begins afresh finds a sleep of its former life",
        tests=(f"{_COPIES}[begin_sleep (sleep) {_LATER}]",),
    ),
    _without(
        "upgrade without the checkpoint's number",
        _of("upgrade"),
        "\n    and checkpoint = %(checkpoint)s::int",
        breaks="it puts back the checkpoint of a job that runs on",
        tests=(f"{_COPIES}[upgrade (upgrade) in its own claim]",),
    ),
    _without(
        "question about a COMMIT without the checkpoint's number",
        _of("take_checkpoint_number"),
        "\n    and checkpoint in (%(checkpoint)s::int, %(checkpoint)s::int + 2)",
        breaks="it sets the number back of a job that runs on, whose next write is refused",
        tests=(f"{_COPIES}[take_checkpoint_number (commit twice) in its own claim]",),
    ),
    _without(
        "return of a claim without its number",
        _of("put_back"),
        _shallow(_CLAIM),
        breaks="a job that runs is claimed again",
        tests=(f"{_COPIES}[put_back (nothing) {_LATER}]",),
    ),
    _without(
        "deferral without the claim's number",
        _of("defer"),
        _shallow(_CLAIM),
        breaks="a job that runs is claimed again",
        tests=(f"{_COPIES}[defer (nothing) {_LATER}]",),
    ),
    *(
        Mutant(
            f"a zombie's late {statement} without all that names it, and its lease",
            "it is written into an attempt of another worker",
            _of(statement),
            _CLAIM,
            "",
            (f"{_ZOMBIES}test_a_late_write_of_a_zombie_changes_nothing[{case}]",),
            more=(
                Edit(_of(statement), _CHECKPOINT, ""),
                Edit(_of(statement), _WORKER, ""),
                Edit(_of(statement), f" and {_LEASE}", ""),
            ),
        )
        for statement, case in (
            ("persist", "persist-persist and raise-SELECT 0"),
            ("finish", "finish-return-SELECT 1"),
            ("release", "release-raise-SELECT 0"),
        )
    ),
    Mutant(
        "a late renewal of a lease that has run out",
        "a worker holds jobs that it has given up",
        _of("renew_lease"),
        " and lease_until > clock_timestamp()",
        "",
        (f"{_ZOMBIES}test_a_late_renewal_revives_no_lease",),
    ),
    Mutant(
        "a late claim of a zombie isn't looked for",
        "what it has taken is stuck for ever",
        _of("sweep"),
        "    array(select worker_id from holder),",
        "    array[]::uuid[],",
        ("tests/store/test_leases.py::test_a_claim_that_landed_after_the_lapse_is_found[18]",),
    ),
    Mutant(
        "what a late claim has taken isn't put back",
        "it is stuck as long as its worker lives",
        "worker/strays.py",
        "            self._owner.desk.put_back(PutBack(stray.id, stray.claim))",
        "            pass",
        tuple(
            f"{_CLAIMS}test_jobs_that_a_late_claim_takes_go_on_and_none_is_done_twice[{statement}]"
            for statement in ("claim", "claim_band", "claim_suspect")
        ),
    ),
)
