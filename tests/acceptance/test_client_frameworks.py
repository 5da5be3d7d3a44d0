"""Starting jobs in Django's transactions, and what SQLAlchemy's sessions and connections are told: the real ones."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import django
import psycopg
import pytest
import sqlalchemy
from django.conf import settings
from django.db import connection as djangos
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perdure import App
from perdure.errors import MisuseError
from tests.support.clients import Approved, Meta, define

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.clients import Hands

_ORDER = "insert into orders values (1)"
_SQLALCHEMYS_ORDER = sqlalchemy.text(_ORDER)


class TakenBackError(Exception):
    """What a block of the caller's ends with when it is rolled back."""


@pytest.fixture
def orders(migrated_database: str) -> None:
    """A table of the application's own."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("create table orders (id int)")


@pytest.fixture
def blocking_app(migrated_database: str, orders: None) -> Iterator[App]:
    """An app that is only used by code that doesn't await."""
    app = App(migrated_database)
    define(app)
    yield app
    app.blocking.close()


@pytest.fixture
def in_django(migrated_database: str) -> Iterator[None]:
    """Django, set up as in an application whose database is this one; it can be configured but once in a process."""
    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None)
        django.setup(set_prefix=False)
    found = conninfo_to_dict(migrated_database)
    database = {name.upper(): found[name] for name in ("host", "port", "user")}
    database |= {"ENGINE": "django.db.backends.postgresql", "NAME": found["dbname"]}
    connections.settings = connections.configure_settings({"default": database})
    connections["default"] = connections.create_connection("default")  # in place of the one to the last test's
    yield
    connections.close_all()


@pytest.fixture
def engine(migrated_database: str, orders: None) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(_sqlalchemys(migrated_database))
    yield made
    made.dispose()


@pytest.fixture
async def async_engine(migrated_database: str, orders: None) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(_sqlalchemys(migrated_database))
    yield made
    await made.dispose()


def _sqlalchemys(dsn: str) -> str:
    return dsn.replace("postgresql:", "postgresql+psycopg:", 1)


def _stored(hands: Hands) -> tuple[int, int, int]:
    """Count what is committed: jobs, events, and rows of the application's own."""
    events, orders = "select count(*) from background_tasks.events", "select count(*) from orders"
    return hands.count(), hands.sql(events)[0][0], hands.sql(orders)[0][0]


def _calls(app: App, job_id: int, connection: Any) -> list[Callable[[], Any]]:
    """All that `app.blocking` does in a transaction of the caller's: three jobs are started, and an event is sent."""
    blocking, task = app.blocking, app.tasks["orders.import"]
    return [
        lambda: blocking.start(task, Meta("riga"), connection=connection),
        lambda: blocking.start_many(task, [Meta("oslo")], connection=connection),
        lambda: list(blocking.start_batches(task, [Meta("bern")], connection=connection)),
        lambda: blocking.send(task, job_id, Approved("ann"), connection=connection),
    ]


# --- Django ---


@contextlib.contextmanager
def _ended_by(ending: str) -> Iterator[None]:
    """A block of the application's in `transaction.atomic()`, which an exception rolls back."""
    with contextlib.suppress(TakenBackError), transaction.atomic():
        with djangos.cursor() as cursor:
            cursor.execute(_ORDER)
        yield
        assert djangos.in_atomic_block
        if ending == "rollback":
            raise TakenBackError


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_what_is_started_and_sent_in_djangos_atomic_block_shares_its_fate(
    blocking_app: App, in_django: None, hands: Hands, ending: str
) -> None:
    job = blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("kiev"))
    with _ended_by(ending):
        for call in _calls(blocking_app, job.id, djangos):
            call()
        assert _stored(hands) == (1, 0, 0)
    assert _stored(hands) == ((4, 1, 1) if ending == "commit" else (1, 0, 0))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_job_started_in_an_inner_atomic_block_of_djangos_shares_that_ones_fate(
    blocking_app: App, in_django: None, hands: Hands, ending: str
) -> None:
    task = blocking_app.tasks["orders.import"]
    with _ended_by("commit"):
        blocking_app.blocking.start(task, Meta("riga"), connection=djangos)
        with _ended_by(ending):
            blocking_app.blocking.start(task, Meta("oslo"), connection=djangos)
    assert _stored(hands) == ((2, 0, 2) if ending == "commit" else (1, 0, 1))


def test_on_djangos_connection_that_is_not_connected_yet_a_job_is_stored_at_once(
    blocking_app: App, in_django: None, hands: Hands
) -> None:
    assert djangos.connection is None
    blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("riga"), connection=djangos)
    assert isinstance(djangos.connection, psycopg.Connection)
    assert djangos.get_autocommit()
    assert _stored(hands) == (1, 0, 0)


def test_without_djangos_autocommit_a_job_waits_for_its_commit(
    blocking_app: App, in_django: None, hands: Hands
) -> None:
    transaction.set_autocommit(autocommit=False)
    blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("riga"), connection=djangos)
    assert _stored(hands) == (0, 0, 0)
    transaction.rollback()
    assert _stored(hands) == (0, 0, 0)
    blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("riga"), connection=djangos)
    transaction.commit()
    assert _stored(hands) == (1, 0, 0)


async def test_djangos_connection_is_refused_where_it_would_have_to_be_awaited(
    app: App, task: Any, orders: None, in_django: None, hands: Hands
) -> None:
    with pytest.raises(MisuseError, match=r"it takes a psycopg\.AsyncConnection \(and app\.blocking .* Django's"):
        await task.start(Meta("riga"), connection=djangos)
    assert _stored(hands) == (0, 0, 0)


# --- SQLAlchemy ---


@pytest.mark.parametrize("kind", [sqlalchemy.Connection, Session])
def test_sqlalchemys_is_refused_nothing_is_stored_and_its_transaction_goes_on(
    blocking_app: App, engine: sqlalchemy.Engine, hands: Hands, kind: type[Any]
) -> None:
    job = blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("kiev"))
    with kind(engine) as own:
        own.execute(_SQLALCHEMYS_ORDER)
        for call in _calls(blocking_app, job.id, own):
            with pytest.raises(
                MisuseError, match=rf"connection= is sqlalchemy\..*{kind.__name__}; app\.blocking takes"
            ):
                call()
        own.execute(_SQLALCHEMYS_ORDER)
        assert _stored(hands) == (1, 0, 0)
        own.commit()
    assert _stored(hands) == (1, 0, 2)


@pytest.mark.parametrize("kind", [sqlalchemy.Connection, Session])
async def test_sqlalchemys_is_refused_where_it_would_have_to_be_awaited(
    app: App, task: Any, engine: sqlalchemy.Engine, hands: Hands, kind: type[Any]
) -> None:
    with kind(engine) as own:
        own.execute(_SQLALCHEMYS_ORDER)
        await _is_refused_by_each_verb(task, own)
        own.execute(_SQLALCHEMYS_ORDER)
        own.commit()
    assert _stored(hands) == (1, 0, 2)


@pytest.mark.parametrize("kind", [AsyncEngine.connect, AsyncSession])
async def test_sqlalchemys_async_is_refused_nothing_is_stored_and_its_transaction_goes_on(
    app: App, task: Any, async_engine: AsyncEngine, hands: Hands, kind: Callable[[AsyncEngine], Any]
) -> None:
    async with kind(async_engine) as own:
        await own.execute(_SQLALCHEMYS_ORDER)
        await _is_refused_by_each_verb(task, own)
        await own.execute(_SQLALCHEMYS_ORDER)
        assert _stored(hands) == (1, 0, 0)
        await own.commit()
    assert _stored(hands) == (1, 0, 2)


async def _is_refused_by_each_verb(task: Any, own: Any) -> None:
    """Try all that is awaited in a transaction of the caller's; but for the job that this needs, stores nothing."""
    job = await task.start(Meta("kiev"))
    name = type(own).__name__
    refusal = rf"connection= is sqlalchemy\..*{name}; it takes a psycopg\.AsyncConnection"
    with pytest.raises(MisuseError, match=refusal):
        await task.start(Meta("riga"), connection=own)
    with pytest.raises(MisuseError, match=refusal):
        await task.start_many([Meta("riga")], connection=own)
    with pytest.raises(MisuseError, match=refusal):
        await anext(aiter(task.start_batches([Meta("riga")], connection=own)))
    with pytest.raises(MisuseError, match=refusal):
        await task.send(job.id, Approved("ann"), connection=own)


@pytest.mark.parametrize(
    "kind",
    [
        AsyncEngine.connect,
        AsyncSession,
    ],
)
async def test_sqlalchemys_async_is_refused_by_code_that_does_not_await(
    blocking_app: App, async_engine: AsyncEngine, hands: Hands, kind: Callable[[AsyncEngine], Any]
) -> None:
    job = blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("kiev"))
    async with kind(async_engine) as own:
        await own.execute(_SQLALCHEMYS_ORDER)
        for call in _calls(blocking_app, job.id, own):
            with pytest.raises(MisuseError, match=r"connection= is sqlalchemy\.ext\.asyncio"):
                call()
        await own.commit()
    assert _stored(hands) == (1, 0, 1)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_what_is_given_the_drivers_connection_of_sqlalchemys_shares_its_transactions_fate(
    blocking_app: App, engine: sqlalchemy.Engine, hands: Hands, ending: str
) -> None:
    job = blocking_app.blocking.start(blocking_app.tasks["orders.import"], Meta("kiev"))
    with Session(engine) as session:
        session.execute(_SQLALCHEMYS_ORDER)
        for call in _calls(blocking_app, job.id, session.connection().connection.driver_connection):
            call()
        assert _stored(hands) == (1, 0, 0)
        getattr(session, ending)()
    assert _stored(hands) == ((4, 1, 1) if ending == "commit" else (1, 0, 0))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_job_given_the_drivers_async_connection_of_sqlalchemys_shares_its_transactions_fate(
    app: App, task: Any, async_engine: AsyncEngine, hands: Hands, ending: str
) -> None:
    async with AsyncSession(async_engine) as session:
        await session.execute(_SQLALCHEMYS_ORDER)
        raw = await (await session.connection()).get_raw_connection()
        await task.start(Meta("riga"), connection=raw.driver_connection)
        assert _stored(hands) == (0, 0, 0)
        await getattr(session, ending)()
    assert _stored(hands) == ((1, 0, 1) if ending == "commit" else (0, 0, 0))
