"""An app and event loops: it is open in one at a time, and what one that has ended leaves open is nobody's."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from perdure import App, JobQuery
from perdure.errors import MisuseError
from perdure.pools import TriedPool
from tests.support.clients import SESSIONS, Hands, Imported, Meta, define, until_found


async def test_an_app_belongs_to_the_event_loop_that_opened_it(migrated_database: str, hands: Hands) -> None:
    async with App(migrated_database) as app:
        task = define(app)

        async def misuse() -> None:
            with pytest.raises(MisuseError, match="open: the app was opened in another event loop"):
                await app.open()
            with pytest.raises(MisuseError, match="close: the app was opened in another event loop"):
                await app.close()
            with pytest.raises(MisuseError, match="start: the app was opened in another event loop"):
                await task.start(Meta("a"))

        job = await task.start(Meta("a"))
        waiting = asyncio.create_task(job.result())
        await until_found(hands, f"select 1 from background_tasks.jobs where awaited and id = {job.id}", finds=True)
        await asyncio.to_thread(asyncio.run, misuse())
        await task.start(Meta("a"))
        hands.end(job, 6, result='{"rows": 5}')
        async with asyncio.timeout(20):
            assert await waiting == Imported(5)
    await until_found(hands, SESSIONS, finds=False)


async def test_an_app_that_is_just_being_opened_belongs_to_its_event_loop(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated_database)
    open_pool = TriedPool.open

    async def misuse() -> None:
        for call in (app.open, app.close):
            with pytest.raises(MisuseError, match="the app was opened in another event loop"):
                await call()

    async def misuse_and_open(pool: TriedPool, **options: Any) -> None:
        monkeypatch.undo()
        await asyncio.to_thread(asyncio.run, misuse())
        await open_pool(pool, **options)

    monkeypatch.setattr(TriedPool, "open", misuse_and_open)
    async with app:
        assert [job async for job in app.jobs()] == []


UNCLOSED = """
import asyncio, sys
from perdure import App, Context

app = App(sys.argv[1])

@app.task("unclosed")
async def unclosed(ctx: Context[None, None]) -> None: ...

async def use() -> None:
    await app.open()
    await unclosed.start()

asyncio.run(use())
asyncio.run(use())
"""


async def test_an_app_that_was_not_closed_can_be_opened_in_the_next_event_loop(
    app: App, migrated_database: str
) -> None:
    command = [sys.executable, "-c", UNCLOSED, migrated_database]
    process = await asyncio.create_subprocess_exec(*command)
    async with asyncio.timeout(50):
        assert await process.wait() == 0
    assert len([job async for job in app.jobs(JobQuery(names=["unclosed"]))]) == 2


ORPHANED = """
import asyncio, sys
import perdure.embedded
from perdure import App, Context

class Server:
    url = sys.argv[1]

    def close(self) -> None:
        print("the server is let go")

async def migrate(*_) -> None: ...

perdure.embedded.acquire = Server
app = App()
app._migrate = migrate

async def at_once(*calls) -> None:
    await asyncio.gather(*(call() for call in calls))

asyncio.run(at_once(app.open, app.open))
asyncio.run(at_once(app.open, app.open))
list(app.blocking.jobs())
pool = app.blocking_pool()
asyncio.run(at_once(app.close, app.close, app.close))
assert pool.closed

async def use() -> None:
    async with app:
        assert [job async for job in app.jobs()] == []

asyncio.run(use())
"""


async def test_an_app_that_was_not_closed_can_be_closed_in_the_next_event_loop(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERDURE_DSN", raising=False)
    command = [sys.executable, "-c", ORPHANED, migrated_database]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(50):
        said, _ = await process.communicate()
    assert (process.returncode, said.decode()) == (0, "the server is let go\n" * 3)


FORKED = """
import asyncio, os, sys, traceback
from perdure import App, Context

app = App(sys.argv[1])

@app.task("forked")
async def forked(ctx: Context[None, None]) -> None: ...

async def use(closes: bool) -> None:
    if closes:
        await app.close()
    async with app:
        await forked.start()

def fork(closes: bool) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(use(closes))
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

async def main() -> None:
    async with app:
        await forked.start()
        for closes in (False, True):
            fork(closes)
            await forked.start()

asyncio.run(main())
"""


async def test_a_process_forked_from_an_event_loop_opens_and_closes_the_app_for_itself(
    app: App, migrated_database: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, migrated_database]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(50):
        _, said = await process.communicate()
    assert (process.returncode, said.decode()) == (0, "")
    assert len([job async for job in app.jobs(JobQuery(names=["forked"]))]) == 5


GROWING = """
import asyncio, sys
from perdure import App, Context

app = App(sys.argv[1])

@app.task("unclosed")
async def unclosed(ctx: Context[None, None]) -> None: ...

async def use() -> None:
    await app.open()
    await asyncio.gather(*(unclosed.start() for _ in range(3)))

for _ in range(40):
    asyncio.run(use())
"""


async def test_a_program_ends_that_has_not_closed_its_app_though_its_pool_was_growing(migrated_database: str) -> None:
    # The pool's task took the cancellation at the loop's end for a connection that couldn't be made, and went on.
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", GROWING, migrated_database)
    try:
        async with asyncio.timeout(50):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_an_app_can_be_opened_at_once_from_many_places_in_one_event_loop_after_another(migrated_database: str) -> None:
    app = App(migrated_database)

    async def use() -> None:
        await asyncio.gather(*(app.open() for _ in range(5)))
        await asyncio.gather(*(app.close() for _ in range(5)))

    for _ in range(2):
        asyncio.run(use())
