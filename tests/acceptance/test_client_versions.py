"""What clients make of payloads that other versions of the code have written: read, changed, sent, begun afresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, Context, ModificationFailed, Proceeded, Retried, Sent
from perdure.errors import MisuseError, PayloadUndecodable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.clients import Hands


@dataclass
class OldMeta:
    """Version 1."""

    name: str


@dataclass
class Meta:
    """Version 3."""

    shop: str
    country: str


@dataclass
class OldProgress:
    """Version 1."""

    page: int = 0


@dataclass
class Progress:
    """Version 3."""

    pages: list[int]


def first(kind: str, data: Any) -> Any:
    match kind:
        case "metadata":
            return {"shop": data["name"]}
        case "execution_metadata":
            return {"page": [data["page"]]}
        case _:
            return data


def second(kind: str, data: Any) -> Any:
    match kind:
        case "metadata":
            return {**data, "country": "lv"}
        case "execution_metadata":
            return {"pages": data["page"]}
        case _:
            return data


@pytest.fixture
async def old(migrated_database: str) -> AsyncIterator[Any]:
    async with App(migrated_database) as app:

        @app.task("t", events=str)
        async def task(_: Context[OldMeta, OldProgress]) -> None: ...

        yield task


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    async with App(migrated_database) as app:
        yield app


@pytest.fixture
def new(app: App) -> Any:
    @app.task("t", version=3, upgrades={1: first, 2: second}, events=str)
    async def task(_: Context[Meta, Progress]) -> None: ...

    return task


async def stored(hands: Hands, table: str = "jobs") -> tuple[Any, ...]:
    return hands.sql(f"select version, metadata, execution_metadata from background_tasks.{table}")[0]


# --- reading ---


async def test_a_job_of_older_code_is_shown_as_the_code_at_hand_has_it_and_stays_stored_as_it_is(
    app: App, old: Any, new: Any, hands: Hands
) -> None:
    started = await old.start(OldMeta("riga"), OldProgress(4))
    job = await app.job(started.id)
    assert (job.metadata, job.execution_metadata, job.version) == (Meta("riga", "lv"), Progress([4]), 1)
    assert await stored(hands) == (1, {"name": "riga"}, {"page": 4})


async def test_a_finished_job_of_older_code_is_shown_likewise(app: App, old: Any, new: Any, hands: Hands) -> None:
    started = await old.start(OldMeta("riga"), OldProgress(4))
    hands.end(started, 6)
    job = await app.job(started.id)
    assert (job.metadata, job.execution_metadata, job.version) == (Meta("riga", "lv"), Progress([4]), 1)


async def test_a_job_of_newer_code_is_refused_with_both_versions_and_shown_for_the_rest(
    old: Any, new: Any, hands: Hands
) -> None:
    started = await new.start(Meta("riga", "lv"), Progress([1]))
    job = await old._client.job(started.id)
    for name in ("metadata", "execution_metadata"):
        with pytest.raises(PayloadUndecodable) as caught:
            getattr(job, name)
        assert str(caught.value) == (
            f"job {job.id}: {name.replace('_', ' ')}: it was written by version 3 of the task, and this code is "
            "version 1, so it takes newer code to read it"
        )
    assert job.version == 3


# --- upgrades that don't do ---

BAD: list[tuple[Any, str]] = [
    ({2: second}, "has no upgrade from it (upgrades: 2)"),
    ({1: lambda _kind, _data: 1 / 0, 2: second}, "its upgrade from version 1 to 2 raised ZeroDivisionError: division"),
    ({1: lambda _kind, data: data, 2: lambda _kind, _data: float("nan")}, "nan can't be stored"),
    ({1: lambda _kind, data: data, 2: lambda _kind, _data: {1: 2}}, "have to make plain JSON values"),
    (
        {1: lambda _kind, data: data, 2: lambda _kind, data: data},
        "missing required field shop (so the upgrades from version 1 to 3 made it)",
    ),
]


@pytest.mark.parametrize(("upgrades", "said"), BAD)
async def test_an_upgrade_that_does_not_do_says_so(app: App, old: Any, upgrades: Any, said: str) -> None:
    @app.task("t", version=3, upgrades=upgrades)
    async def task(_: Context[Meta, Progress]) -> None: ...

    job = await app.job((await old.start(OldMeta("riga"))).id)
    with pytest.raises(PayloadUndecodable) as caught:
        _ = job.metadata
    assert said in str(caught.value)
    assert f"job {job.id}: metadata: " in str(caught.value)


async def test_an_upgrade_that_is_async_is_refused(app: App, old: Any) -> None:
    async def later(_kind: str, data: Any) -> Any:
        return data

    @app.task("t", version=2, upgrades={1: later})
    async def task(_: Context[Meta, Progress]) -> None: ...

    job = await app.job((await old.start(OldMeta("riga"))).id)
    with pytest.raises(PayloadUndecodable, match="is an async function"):
        _ = job.metadata


# --- proceed with a modification ---


async def test_a_modification_by_newer_code_brings_up_both_payloads_and_the_version_at_once(
    app: App, old: Any, new: Any, hands: Hands
) -> None:
    job = await old.start(OldMeta("riga"), OldProgress(4))
    hands.suspend(job)
    answer = await app.proceed(job.id, lambda progress: Progress([*progress.pages, 5]))
    assert isinstance(answer, Proceeded)
    assert (answer.job.metadata, answer.job.execution_metadata) == (Meta("riga", "lv"), Progress([4, 5]))
    assert await stored(hands) == (3, {"shop": "riga", "country": "lv"}, {"pages": [4, 5]})


async def test_a_modification_by_older_code_fails_with_both_versions_and_changes_nothing(
    old: Any, new: Any, hands: Hands
) -> None:
    job = await new.start(Meta("riga", "lv"), Progress([1]))
    hands.suspend(job)
    answer = await old.proceed(job.id, lambda progress: progress)
    assert answer == ModificationFailed(
        f"job {job.id}: execution metadata: it was written by version 3 of the task, and this code is version 1, so it "
        "takes newer code to read it"
    )
    assert await stored(hands) == (3, {"shop": "riga", "country": "lv"}, {"pages": [1]})
    assert hands.column(job, "state") == 4


async def test_a_modification_fails_when_the_metadata_cannot_be_brought_up(app: App, old: Any, hands: Hands) -> None:
    @app.task("t", version=2, upgrades={1: lambda kind, _data: {"pages": []} if kind != "metadata" else {"shop": 1}})
    async def task(_: Context[Meta, Progress]) -> None: ...

    job = await old.start(OldMeta("riga"))
    hands.suspend(job)
    answer = await app.proceed(job.id, lambda progress: progress)
    assert isinstance(answer, ModificationFailed)
    assert f"job {job.id}: metadata: shop: expected str, got int" in answer.message
    assert await stored(hands) == (1, {"name": "riga"}, {"page": 0})


async def test_a_plain_proceed_needs_no_version(old: Any, new: Any, hands: Hands) -> None:
    job = await new.start(Meta("riga", "lv"), Progress([1]))
    hands.suspend(job)
    assert isinstance(await old.proceed(job.id), Proceeded)
    assert (await stored(hands))[0] == 3


# --- send, and retry ---


async def test_an_event_carries_the_version_of_its_sender(old: Any, new: Any, hands: Hands) -> None:
    job = await new.start(Meta("riga", "lv"), Progress([]))
    assert isinstance(await old.send(job.id, "early"), Sent)
    assert isinstance(await new.send(job.id, "late"), Sent)
    assert hands.sql("select version, event from background_tasks.events order by id") == [(1, "early"), (3, "late")]


async def test_a_retry_leaves_payloads_and_version_as_they_are(app: App, old: Any, new: Any, hands: Hands) -> None:
    job = await old.start(OldMeta("riga"), OldProgress(4))
    hands.end(job, 7)
    assert isinstance(await app.retry(job.id), Retried)
    assert await stored(hands) == (1, {"name": "riga"}, {"page": 4})


async def test_a_retry_afresh_brings_the_metadata_up_with_the_checkpoint(
    app: App, old: Any, new: Any, hands: Hands
) -> None:
    job = await old.start(OldMeta("riga"), OldProgress(4))
    hands.end(job, 7)
    answer = await app.retry(job.id, afresh=True, execution_metadata=Progress([9]))
    assert isinstance(answer, Retried)
    assert (answer.job.metadata, answer.job.execution_metadata) == (Meta("riga", "lv"), Progress([9]))
    assert await stored(hands) == (3, {"shop": "riga", "country": "lv"}, {"pages": [9]})


async def test_a_retry_afresh_by_older_code_is_refused(old: Any, new: Any, hands: Hands) -> None:
    job = await new.start(Meta("riga", "lv"), Progress([1]))
    hands.end(job, 7)
    with pytest.raises(MisuseError, match=r"can't begin afresh with this code: .* version 3 .* version 1"):
        await old._client.retry(job.id, afresh=True)
    assert (await stored(hands, "finished_jobs"))[0] == 3
