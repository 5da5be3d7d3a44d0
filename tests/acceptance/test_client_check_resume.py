"""`app.check_resume()`: every live job, page by page; as a worker would read it; and what would be passed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pydantic
import pytest

from perdure import App, Context, JobState
from perdure.resuming import ResumeProblem, ResumeProgress
from perdure.verbs import checking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.clients import Hands


@pytest.fixture
async def old(migrated_database: str) -> AsyncIterator[Any]:
    """A task of plain JSON, which stores whatever it is told."""
    async with App(migrated_database) as app:

        @app.task("t", events=Any)
        async def task(_: Context[Any, Any]) -> None: ...

        yield task


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    async with App(migrated_database) as app:
        yield app


@dataclass
class Numbered:
    number: int


def numbered(app: App) -> None:
    @app.task("t", events=Numbered)
    async def task(_: Context[Numbered, Numbered]) -> None: ...


async def found(app: App) -> list[ResumeProblem]:
    return [problem async for problem in app.check_resume()]


@pytest.mark.parametrize(("limit", "max_bytes"), [(1, 10**6), (3, 10**6), (1000, 1), (1000, 100), (1000, 10**6)])
async def test_no_job_and_no_event_is_left_out_or_seen_twice_however_they_fall_into_pages(
    app: App, old: Any, monkeypatch: pytest.MonkeyPatch, limit: int, max_bytes: int
) -> None:
    monkeypatch.setattr(checking, "_LIMIT", limit)
    monkeypatch.setattr(checking, "_MAX_BYTES", max_bytes)
    numbered(app)
    expected: list[tuple[int, str, str]] = []
    for job_number in range(7):
        bad = job_number % 2
        job = await old.start({"number": "x" if bad else 1}, {"number": 1})
        if bad:
            expected.append((job.id, "metadata", "metadata: number: expected int, got str"))
        for event_number in range(job_number):
            bad = event_number % 3 == 1
            await old.send(job.id, {"number": str(event_number) if bad else event_number})
            if bad:
                expected.append((job.id, "event", "event: number: expected int, got str"))
    problems = await found(app)
    assert sorted((each.job_id, each.payload, each.reason) for each in problems) == sorted(expected)
    assert list(app.blocking.check_resume()) == problems


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_events_of_a_job_are_seen_whichever_job_was_sent_to_first(
    app: App, old: Any, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Numbers of events grow over all jobs: a later job's may be lower than those that have been looked at."""
    monkeypatch.setattr(checking, "_LIMIT", limit)
    numbered(app)
    jobs = await old.start_many([{"number": 1}] * 3, {"number": 1})
    for job in [*reversed(jobs), *jobs]:
        await old.send(job.id, {"number": "x"})
    assert [each.job_id for each in await found(app)] == [job.id for job in jobs for _ in range(2)]


async def test_it_says_how_far_it_is(app: App, old: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_LIMIT", 2)
    numbered(app)
    jobs = await old.start_many([{"number": 1}] * 5, {"number": 1})
    await old.send(jobs[0].id, {"number": 1})
    told: list[ResumeProgress] = []
    async for _problem in app.check_resume(told.append):
        pytest.fail("none of them is bad")
    again: list[ResumeProgress] = []
    assert list(app.blocking.check_resume(again.append)) == []
    assert again == told
    assert told[0] == ResumeProgress(0, 0, 5)
    assert told[-1] == ResumeProgress(5, 1, 5)
    assert [each.jobs for each in told] == sorted(each.jobs for each in told)


async def test_an_unknown_task_is_listed_once_with_its_state(app: App, old: Any, hands: Hands) -> None:
    job = await old.start(1, 2)
    hands.suspend(job)
    await old.send(job.id, "x")
    hands.suspend(job)
    reason = "no task named 't' is registered in this app"
    assert await found(app) == [ResumeProblem(job.id, "t", JobState.SUSPENDED, "task", reason)]


async def test_an_event_that_comes_meanwhile_for_a_job_behind_is_seen(app: App, old: Any) -> None:
    """The check is no snapshot: it holds up nobody, and sees each page as it is then."""
    numbered(app)
    jobs = await old.start_many([{"number": "x"}, {"number": 1}], {"number": 1})
    seen: list[ResumeProblem] = []
    async for problem in app.check_resume():
        seen.append(problem)
        if len(seen) == 1:
            await old.send(jobs[1].id, {"number": "x"})
    assert [(each.job_id, each.payload) for each in seen] == [(jobs[0].id, "metadata"), (jobs[1].id, "event")]


async def test_a_checkpoint_that_could_not_be_written_again_does_not_resume(app: App, old: Any) -> None:
    """As in a worker, which encodes what it has read."""

    @dataclass
    class Growing:
        number: int

        def __post_init__(self) -> None:
            self.number += 1

    @app.task("t", events=Growing)
    async def task(_: Context[Growing, Growing]) -> None: ...

    await old.start({"number": 1}, {"number": 1})
    (problem,) = await found(app)
    assert (problem.payload, problem.resumes) == ("execution_metadata", False)
    assert "number" in problem.reason


# --- what is passed over ---


@dataclass
class Line:
    price: int


class Aliased(pydantic.BaseModel):
    cursor: str = pydantic.Field(default="", validation_alias=pydantic.AliasChoices("cursor", "token"))


class Renamed(msgspec.Struct):
    cursor: Annotated[str, msgspec.Meta(max_length=9)] = msgspec.field(default="", name="token")


class Open(pydantic.BaseModel, extra="allow"):
    number: int = 0


@dataclass
class Nested:
    lines: list[Line] = field(default_factory=list)
    by_name: dict[str, Line] = field(default_factory=dict)


PASSED: list[tuple[Any, Any, list[str]]] = [
    (Numbered, {"number": 1, "gone": 2}, ["gone"]),
    (Numbered, {"number": 1, "gone": None}, []),
    (Nested, {"lines": [{"price": 1, "vat": 2}, {"price": 1, "vat": 3}]}, ["lines[].vat"]),
    (Nested, {"by_name": {"a": {"price": 1, "vat": 2}}}, ["by_name.a.vat"]),
    (Nested, {"lines": [{"price": 1}], "by_name": {"b": {"price": 1}}}, []),
    (Aliased, {"token": "t"}, []),
    (Aliased, {"tokens": "t"}, ["tokens"]),
    (Renamed, {"token": "t"}, []),
    (Renamed, {"cursor": "t"}, ["cursor"]),
    (Open, {"number": 1, "gone": 2}, []),
    (dict[str, int], {"gone": 2}, []),
    (Any, {"gone": 2}, []),
]


@pytest.mark.parametrize(("annotation", "stored", "passed_over"), PASSED)
async def test_what_nothing_takes_is_told_and_what_an_alias_takes_is_not(
    app: App, old: Any, annotation: Any, stored: Any, passed_over: list[str]
) -> None:
    @app.task("t")
    async def task(_: Context[None, annotation]) -> None: ...

    await old.start(None, stored)
    problems = await found(app)
    assert [each.resumes for each in problems] == [True] * len(passed_over)
    for problem, path in zip(problems, passed_over, strict=True):
        assert problem.payload == "execution_metadata"
        assert problem.reason.startswith(f"execution metadata: {path}: stored, but ")


async def test_what_an_upgrade_takes_along_is_not_passed_over(app: App, old: Any) -> None:
    @app.task("t", version=2, upgrades={1: lambda _kind, data: {"cursor": data["token"]} if data else None})
    async def task(_: Context[None, Aliased]) -> None: ...

    await old.start(None, {"token": "t"})
    assert await found(app) == []
