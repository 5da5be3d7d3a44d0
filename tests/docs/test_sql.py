"""The SQL that pages show does what they say: the roles, and what the runbook asks of the database."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perdure import App, Context
from perdure.errors import MissingRight
from tests.support.examples import read_page
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

_ROOT = Path(__file__).parents[2]


def _sql(page: str, word: str) -> bytes:
    """The block of SQL with this word in it."""
    blocks = [block.text for block in read_page(_ROOT / page).blocks if block.language == "sql" and word in block.text]
    assert len(blocks) == 1, (page, word, len(blocks))
    return blocks[0].encode()


def _shop(dsn: str) -> App:
    app = App(dsn, scheduling={"polling_delay": 0.1})

    @app.task("orders.import")
    async def import_orders(ctx: Context[int, None]) -> int:
        async with ctx.transaction() as connection:
            await connection.execute("insert into orders values (%s, 0)", [ctx.metadata])
            await connection.execute("update orders set rows = 7 where number = %s", [ctx.metadata])
            cursor = await connection.execute("select rows from orders where number = %s", [ctx.metadata])
            (rows,) = await cursor.fetchone() or (0,)
        return int(rows)

    return app


@pytest.fixture
def shop(private_cluster: Cluster) -> str:
    """A database `shop` of a user `shop`, on a server of its own: roles are the whole server's."""
    dsn = private_cluster.dsn(private_cluster.create_database("shop"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create role shop login")
        connection.execute("alter database shop owner to shop")
        connection.execute("revoke connect on database shop from public")
    return dsn


async def test_the_owner_of_a_schema_whose_role_was_given_before_goes_on_and_the_others_have_what_they_need(
    shop: str,
) -> None:
    owner = make_conninfo(shop, user="shop")
    async with _shop(owner) as app:
        await app.migrate()
    with psycopg.connect(shop, autocommit=True) as superuser:
        superuser.execute(_sql("docs/security.md", "nologin"))
        superuser.execute("create table orders (number int, rows int); alter table orders owner to shop")
        async with _shop(shop) as app:
            await app.migrate(roles=True)
        superuser.execute(_sql("docs/security.md", "create role web"))
    web, jobs = (make_conninfo(shop, user=user) for user in ("web", "jobs"))
    async with _shop(owner) as app, app.worker():
        assert await (await app.tasks["orders.import"].start(1)).result(timeout=30) == 7
    async with _shop(web) as starting, _shop(jobs) as working, working.worker():
        job = await starting.tasks["orders.import"].start(2)
        assert await (await working.job(job.id)).result(timeout=30) == 7
        with pytest.raises(MissingRight):
            await starting.cancel(job.id)


async def test_who_works_and_what_waits(every_migrated_database: str) -> None:
    app = _shop(every_migrated_database)
    async with app, app.worker(queues=["mail", "images"], concurrency=5):
        task = app.tasks["orders.import"]
        await task.start_many([1, 2], priority=3)
        await task.start(3, at=timedelta(hours=1))
        with psycopg.connect(every_migrated_database, autocommit=True) as connection:
            cursor = connection.execute(_sql("docs/reliability.md", "background_tasks.workers"))
            ((_host, pid, queues, concurrency, *_rest),) = cursor.fetchall()
            assert cursor.nextset()
            ((queue, priority, count, oldest),) = cursor.fetchall()
    assert (pid, queues, concurrency) == (os.getpid(), ["mail", "images"], 5)
    assert (queue, priority, count) == ("default", 3, 2)
    assert 0 <= oldest.total_seconds() < 60


def test_who_holds_a_table_of_the_schema(every_migrated_database: str, every_cluster: Cluster) -> None:
    """Not those who hold one in another database, whose number may be the same."""
    other = every_cluster.create_database(template=every_cluster.template("migrated", migrate_database))
    with (
        psycopg.connect(every_cluster.dsn(other)) as elsewhere,
        psycopg.connect(every_migrated_database, application_name="report") as holding,
        psycopg.connect(every_migrated_database, autocommit=True) as asking,
    ):
        for connection in (elsewhere, holding):
            connection.execute("select from background_tasks.jobs")
        found = asking.execute(_sql("docs/reliability.md", "pg_locks")).fetchall()
        assert [(pid, name, state) for pid, _user, name, state, _since in found] == [
            (holding.info.backend_pid, "report", "idle in transaction")
        ]
        holding.rollback()
        assert asking.execute(_sql("docs/reliability.md", "pg_locks")).fetchall() == []


def test_who_pins_the_horizon(every_migrated_database: str) -> None:
    query = _sql("docs/reliability.md", "backend_xmin").replace(b"limit 5", b"")  # other tests pin it as well
    with (
        psycopg.connect(every_migrated_database) as holding,
        psycopg.connect(every_migrated_database, autocommit=True) as asking,
    ):
        holding.execute("set transaction isolation level repeatable read")
        holding.execute("select 1")
        asking.execute("create table later (x int)")
        ages = {who: age for who, _state, _since, age in asking.execute(query).fetchall()}
        assert ages[str(holding.info.backend_pid)] >= 1
        holding.rollback()
        assert str(holding.info.backend_pid) not in {row[0] for row in asking.execute(query).fetchall()}
