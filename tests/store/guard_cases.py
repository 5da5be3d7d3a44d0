"""All ways for the store's writes to be wrong, and some to be right, on the scene that `guards.py` sets."""

from __future__ import annotations

from tests.store.guards import CHECKPOINT, CLAIM, ENOUGH, Case

__all__ = ["CASES", "WRITES"]

_ATTEMPT = (
    "finish",
    "release",
    "persist",
    "fence",
    "take_checkpoint_number",
    "report_progress",
    "put_back",
    "defer",
    "upgrade",
    "begin_sleep",
)
_NUMBERED = ("finish", "release", "persist", "fence", "take_checkpoint_number", "upgrade")
_LEASED = ("finish", "release", "persist", "fence", "upgrade", "begin_sleep")
WRITES = (
    *_ATTEMPT,
    "consume",
    "wake_unread",
    "expire",
    "cancel",
    "request_cancel",
    "proceed",
    "retry",
    "renew_lease",
    "sleep",
    "forgive",
)


def _cases() -> list[Case]:
    cases = [Case(write, "what is right is written", ENOUGH.get(write, ""), written=True) for write in WRITES]
    cases += [
        Case(write, "a job that isn't there", ENOUGH.get(write, ""), {"id": 2**40})
        for write in WRITES
        if write not in {"renew_lease", "sleep", "expire"}
    ]
    for write in _ATTEMPT:
        cases += [
            Case(write, "an earlier claim", change={"claim": CLAIM - 1}),
            Case(write, "a later claim", change={"claim": CLAIM + 1}),
            Case(write, "another worker", change={"worker": "other"}),
            Case(
                write,
                "a rescued job that nobody has claimed yet",
                "update {s}.jobs set state = 0, worker_id = null where id = {job}",
            ),
        ]
        cases += [
            Case(write, f"a job in state {state}", f"update {{s}}.jobs set state = {state} where id = {{job}}")
            for state in (0, 1, 3, 4, 5)
        ]
    for write in _NUMBERED:
        cases += [
            Case(write, "an earlier checkpoint", change={"checkpoint": CHECKPOINT - 1}),
            Case(write, "a later checkpoint", change={"checkpoint": CHECKPOINT + 1}),
        ]
    for write in _LEASED:
        cases += [Case(write, f"a lease that {how}", spoil) for how, spoil in _SPOILT_LEASES.items()]
    return (
        cases + _flag_cases() + _rescue_cases() + _client_cases() + _lease_cases() + _event_cases() + _deadline_cases()
    )


_OTHER = "update {s}.workers set timeline = '00000000'"
_LAPSE = "update {s}.workers set lapsed_at = clock_timestamp()"
_SPOILT_LEASES = {
    "is marked as lapsed": _LAPSE + " where id = {worker}",
    "has run out, unmarked": "update {s}.workers set lease_until = clock_timestamp() where id = {worker}",
    "is of another time line": _OTHER + " where id = {worker}",
    "was given back": "delete from {s}.workers where id = {worker}",
}


def _flag_cases() -> list[Case]:
    cancel = "update {s}.jobs set cancel_requested = true where id = {job}"
    proceed = "update {s}.jobs set proceed_requested = true where id = {job}"
    return [
        *[Case("finish", f"a cancel request, and state {s}", cancel, {"state": s}, written=True) for s in (6, 8)],
        Case("finish", "a failure that doesn't know of a cancel request", cancel, {"state": 7}),
        Case("finish", "a failure without a cancel request", change={"state": 7}, written=True),
        *[
            Case("release", f"state {state} that doesn't know of a cancel request", cancel, {"state": state})
            for state in (0, 3, 4, 5)
        ],
        Case("release", "a suspension that doesn't know of a proceed", proceed, {"state": 4}),
        Case("release", "a sleep, and a proceed", proceed, {"state": 4, "asleep": True}, written=True),
        *[Case("release", f"a proceed, and state {s}", proceed, {"state": s}, written=True) for s in (0, 3, 5)],
        Case("put_back", "a cancel request", cancel),
        Case("defer", "a cancel request", cancel),
        *[
            Case(write, "a cancel request and a proceed don't matter", f"{cancel}; {proceed}", written=True)
            for write in ("persist", "fence", "take_checkpoint_number", "report_progress", "upgrade", "begin_sleep")
        ],
    ]


def _rescue_cases() -> list[Case]:
    mine_lapsed = _LAPSE + " where id = {worker}"
    none_left = "update {s}.workers set lease_until = clock_timestamp()"
    return [
        case
        for write in ("finish", "release")
        for case in (
            Case(write, "a rescue by a worker with a lease", mine_lapsed, {"holder": "other"}, written=True),
            Case(write, "a rescue by a worker whose lease is marked", _LAPSE, {"holder": "other"}),
            Case(write, "a rescue by a worker whose lease has run out", none_left, {"holder": "other"}),
            Case(write, "a rescue by a worker of another time line", f"{_OTHER}; {mine_lapsed}", {"holder": "other"}),
            Case(write, "a rescue by a worker that isn't registered", mine_lapsed, {"holder": "unknown"}),
        )
    ]


def _client_cases() -> list[Case]:
    def state(number: int, more: str = "") -> str:
        return f"update {{s}}.jobs set state = {number}, worker_id = null {more} where id = {{job}}"

    due_then = ", scheduled_at = clock_timestamp() + interval '1 h'"
    return [
        *[Case("cancel", f"a job in state {number}", state(number), written=True) for number in (0, 1, 3, 4, 5)],
        Case("cancel", "a running job"),
        *[Case("request_cancel", f"a job in state {number}", state(number)) for number in (0, 1, 3, 4, 5)],
        *[Case("proceed", f"a job in state {number}", state(number, due_then)) for number in (0, 1, 3)],
        Case("proceed", "a running job remembers it", written=True),
        Case("proceed", "a sleeping job remembers it", state(4, ", asleep = true"), written=True),
        Case("proceed", "a proceeded job that is due already", state(5)),
        Case("proceed", "a proceeded job of later is brought forward", state(5, due_then), written=True),
        Case("proceed", "a job of another task", ENOUGH["proceed"], {"task": "another"}),
        Case("proceed", "a job of the task", ENOUGH["proceed"], {"task": "task"}, written=True),
        Case("proceed", "a modification of a running job", change={"modified": True}),
        Case("proceed", "a modification of a sleeping job", state(4, ", asleep = true"), {"modified": True}),
        Case("proceed", "a modification", ENOUGH["proceed"], {"modified": True}, written=True),
        *[
            Case(
                "proceed",
                f"a modification of {what} checkpoint",
                ENOUGH["proceed"],
                {"modified": True, "checkpoint": n},
            )
            for what, n in (("an earlier", CHECKPOINT - 1), ("a later", CHECKPOINT + 1))
        ],
        Case("retry", "a live job"),
        Case("retry", "the attempt that ended it", ENOUGH["retry"], {"attempt": 103}, written=True),
        Case("retry", "another attempt than ended it", ENOUGH["retry"], {"attempt": 102}),
        Case("forgive", "a job that lapsed with another worker", ENOUGH["forgive"], {"worker": "other"}),
        Case("forgive", "a job without lapses", "update {s}.jobs set lapsed_worker_id = {worker}, lapses = 0"),
    ]


def _lease_cases() -> list[Case]:
    return [
        *[Case(write, "a worker that isn't there", change={"worker": "unknown"}) for write in ("renew_lease", "sleep")],
        *[Case("renew_lease", f"a lease that {how}", spoil) for how, spoil in _SPOILT_LEASES.items()],
    ]


def _event_cases() -> list[Case]:
    waiting = ENOUGH["wake_unread"]
    return [
        *[
            Case(
                "wake_unread",
                f"a job in state {state}",
                f"{waiting}; update {{s}}.jobs set state = {state} where id = {{job}}",
            )
            for state in (0, 1, 2, 3, 5)
        ],
        *[
            Case(
                "wake_unread",
                f"a proceeded job that is due {when}",
                f"{waiting}; update {{s}}.jobs set state = 5, scheduled_at = now() {more} where id = {{job}}",
                written=bool(more),
            )
            for when, more in (("already", ""), ("in an hour", "+ interval '1 h'"))
        ],
        Case("wake_unread", "a job that sleeps", f"{waiting}; update {{s}}.jobs set asleep = true where id = {{job}}"),
        Case("wake_unread", "a job without events", f"{waiting}; delete from {{s}}.events where job_id = {{job}}"),
        Case(
            "wake_unread",
            "a job that its events have woken before",
            f"{waiting}; update {{s}}.events set woke = true where job_id = {{job}}",
        ),
    ]


def _deadline_cases() -> list[Case]:
    def deadline(at: str) -> str:
        return f"{ENOUGH['expire']}; update {{s}}.jobs set deadline_at = {at} where id = {{job}}"

    return [
        Case("expire", "a job that a worker holds", "update {s}.jobs set deadline_at = clock_timestamp()"),
        Case("expire", "a job whose deadline lies ahead", deadline("clock_timestamp() + interval '1 min'")),
        Case("expire", "a job without a deadline", deadline("null")),
        *[
            Case(
                "expire",
                f"a job in state {state}",
                f"{ENOUGH['expire']}; update {{s}}.jobs set state = {state} where id = {{job}}",
                written=True,
            )
            for state in (0, 1, 3, 4, 5)
        ],
    ]


CASES = _cases()
