"""Faults 13 and 20: anybody who may connect may notify; whatever that says, who listens goes on listening."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from perdure import App
from tests.support.payloads import Meta, define

_PAYLOADS = ("", "9" * 5_000, "9" * 20, "-1", "1.5", "٣", "x" * 7_999, "\x1b[2J\n", "default\tslow", "' $$ %s {}")


async def test_whoever_listens_goes_on_listening(migrated_database: str) -> None:
    # Who doesn't listen any more would hear of it in a day.
    app = App(migrated_database, scheduling={"polling_delay": timedelta(days=1)})
    define(app)
    channels = (app.names.work_channel, app.names.cancel_channel, app.names.done_channel)
    async with app, app.worker():
        task = app.tasks["busy"]
        assert await (await task.start(Meta("riga"))).result(timeout=20) == "riga"
        async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as anybody:
            for channel in channels:
                for payload in _PAYLOADS:
                    await anybody.execute("select pg_notify(%s, %s)", [channel, payload])
        for _ in range(3):
            assert await (await task.start(Meta("riga"))).result(timeout=20) == "riga"
