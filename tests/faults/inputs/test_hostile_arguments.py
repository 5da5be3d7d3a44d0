"""Bad input: whatever a program hands to a verb is stored, or refused by an error of perdure's that says what is wrong.

No driver's error, no broken `repr`, no endless message; and nothing that was given is ever read as SQL.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import App, Context, JobNotFound, JobQuery
from perdure.errors import DefinitionError, PerdureError
from tests.support.payloads import Meta, Ping
from tests.support.tiers import TIER, count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.malformed import Spoiler

    Call = Callable[[Any], Awaitable[Any]]

pytestmark = pytest.mark.timeout(3600 if TIER == "nightly" else 600)  # half a million calls on a busy machine
_LONGEST_MESSAGE = 2_000


class Nasty:
    """What can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    return deep


def _endless() -> dict[str, Any]:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    return endless


_ATTACKS = (
    "'; drop table background_tasks.jobs; --", '"; drop schema background_tasks cascade; --', "%s %(id)s %%",
    "{schema}",
    "\\'; select 1; --", "$$; select 1; $$", "E'\\x00'", ":name", "' or 1=1 --", "\\", "'", '"',
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**70, 10**5_000, 1.5, math.nan,
    math.inf, "", " ", "x", *_ATTACKS, "\0", "a\0b", "\ud800", "é" * 63, "x" * 1_000_000, b"x", [], [1], ["\0"],
    ["\ud800"], {},
    {"a": "\0"}, {"a": "\ud800"}, {"a": math.nan}, {"a": 10**5_000}, {1: 2}, {"": ""}, _deep(), _endless(), Nasty(),
    [Nasty()], object(), int, len, timedelta(days=1), timedelta.max, timedelta.min, datetime(2020, 1, 1),  # noqa: DTZ001
    datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), Decimal("1e9999"), Decimal("NaN"), "completed",
)  # fmt: skip
_plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(_ATTACKS)
_any = st.recursive(_plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


async def _calls(app: App) -> dict[str, Call]:
    task = app.tasks["busy"]
    job = await task.start(Meta("riga"))

    async def look(**filters: Any) -> None:
        async for _ in app.jobs(JobQuery(**filters)):
            pass

    calls: dict[str, Call] = {
        "job": app.job,
        "history": app.history,
        "unread_events": app.unread_events,
        "cancel": app.cancel,
        "retry": app.retry,
        "retry(execution_metadata)": lambda v: app.retry(job.id, afresh=True, execution_metadata=v),
        "proceed": app.proceed,
        "proceed(at)": lambda v: app.proceed(job.id, at=v),
        "proceed(modification)": lambda v: app.proceed(job.id, lambda _: v),
        "start": task.start,
        "start(shop)": lambda v: task.start(Meta(v)),
        "start(execution_metadata)": lambda v: task.start(Meta("x"), v),
        "start(at)": lambda v: task.start(Meta("x"), at=v),
        "start(queue)": lambda v: task.start(Meta("x"), queue=v),
        "start(priority)": lambda v: task.start(Meta("x"), priority=v),
        "start(deadline)": lambda v: task.start(Meta("x"), deadline=v),
        "start(connection)": lambda v: task.start(Meta("x"), connection=v),
        "start_many": lambda v: task.start_many([v]),
        "send": lambda v: task.send(v, Ping(1)),
        "send(event)": lambda v: task.send(job.id, v),
        "send(number)": lambda v: task.send(job.id, Ping(v)),
    }
    for name in JobQuery.__dataclass_fields__:
        calls[f"JobQuery({name})"] = lambda v, name=name: look(**{name: v})
        calls[f"JobQuery({name}[])"] = lambda v, name=name: look(**{name: [v]})
    return calls


async def _attack(name: str, call: Call, value: Any) -> None:
    try:
        await call(value)
    except PerdureError as error:
        _check_message(error)
    except Exception as error:
        error.add_note(f"{name} of {type(value).__name__}")
        raise


async def test_every_value_in_every_place(app: App, spoiler: Spoiler) -> None:
    calls = await _calls(app)
    for name, call in calls.items():
        for value in _VALUES:
            await _attack(name, call, value)
    await _is_whole(app, spoiler)


@settings(max_examples=count(push=100, nightly=5_000), suppress_health_check=list(HealthCheck))
@given(value=_any)
async def test_any_value_in_every_place(app: App, value: Any) -> None:
    for name, call in (await _calls(app)).items():
        await _attack(name, call, value)


async def test_what_was_stored_comes_back_and_nothing_was_read_as_sql(app: App, spoiler: Spoiler) -> None:
    task = app.tasks["busy"]
    for attack in _ATTACKS:
        job = await task.start(Meta(attack), queue=attack)
        assert (await app.job(job.id)).metadata == Meta(attack)
        query = JobQuery(metadata={"shop": attack}, queues=[attack])
        assert [found.id async for found in app.jobs(query)] == [job.id]
        assert [found.id async for found in app.jobs(JobQuery(names=[attack]))] == []
        assert await app.proceed(JobQuery(names=[attack])) == JobNotFound()
    await _is_whole(app, spoiler)


_OPTIONS = ("queue", "priority", "timeout", "deadline", "version", "upgrades", "max_retry_count", "retry")


@pytest.mark.parametrize("option", _OPTIONS)
def test_every_value_in_a_definition(app: App, option: str) -> None:
    async def handler(ctx: Context[None, None]) -> None: ...

    options: Any
    for number, value in enumerate(_VALUES):
        options = {option: value}
        try:
            app.task(f"{option} {number}", **options)(handler)
        except DefinitionError as error:
            _check_message(error)


def test_every_value_as_a_name(app: App) -> None:
    async def handler(ctx: Context[None, None]) -> None: ...

    for value in _VALUES:
        try:
            app.task(value)(handler)
        except DefinitionError as error:
            _check_message(error)


def _check_message(error: Exception) -> None:
    assert 0 < len(str(error)) < _LONGEST_MESSAGE


async def _is_whole(app: App, spoiler: Spoiler) -> None:
    """The schema is as it was, and works."""
    tables = "select 1 from pg_class where relnamespace = '{s}'::regnamespace and relkind = 'r'"
    assert len(await spoiler.run(tables)) == 8
    async with app.worker():
        assert await (await app.tasks["neighbour"].start(1, priority=100)).result(timeout=60) == 1
