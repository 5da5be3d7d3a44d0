"""`App`: the tasks, the configuration and the verbs of an application, in one object. No logic of its own."""

from __future__ import annotations

import asyncio
import functools
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from perdure.blocking import Blocking
from perdure.cancelling import held
from perdure.classes import define, mark
from perdure.client import Client
from perdure.config import ExecutionConfig, load
from perdure.connections import BlockingPool, Home, connect
from perdure.decorator import TaskDecorator
from perdure.errors import DefinitionError, MisuseError
from perdure.operating import Operating
from perdure.options import check_queues
from perdure.own_thread import in_own_thread
from perdure.shown import shorten
from perdure.store import migrate
from perdure.store.sql import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta
    from os import PathLike
    from types import TracebackType
    from typing import Unpack

    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from perdure.config import Config, PersistenceConfig, SchedulingConfig
    from perdure.durations import Duration
    from perdure.embedded import EmbeddedServer
    from perdure.options import TaskOptions
    from perdure.store.migrate import Migration
    from perdure.store.sql import Names
    from perdure.task import Resolver, Task
    from perdure.worker.worker import Worker

__all__ = ["App"]

_CLOSES = "perdure closing"


class App(Operating):
    """An application's tasks, its configuration, and what can be asked of its jobs.

    Settings come from the arguments, `PERDURE_*` variables and `perdure.toml`, in this order. Without a dsn the jobs
    are in an embedded PostgreSQL in `./.perdure`, for development.

    Attributes:
        config: The settings in effect.
        tasks: The tasks by name.
        names: What is named after the schema in the database.
        resolver: Makes the instances of tasks that are classes; None calls the class.
        blocking: The verbs for code that doesn't await.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        persistence: PersistenceConfig | Mapping[str, object] | None = None,
        scheduling: SchedulingConfig | Mapping[str, object] | None = None,
        execution: ExecutionConfig | Mapping[str, object] | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """Load the configuration; nothing is connected before `open`.

        Args:
            dsn: The database, as a URL or in libpq's notation.
            persistence: Where in it; a section as an object or as a mapping.
            scheduling: How due jobs are fetched and tried again.
            execution: How jobs are run.
            resolver: Makes an instance of a task's class for each attempt, with what its `__init__` needs.

        Raises:
            ConfigError: A setting is unknown or not allowed; the message names it, its value and what is allowed.
        """
        self._set_up(load(dsn=dsn, persistence=persistence, scheduling=scheduling, execution=execution), resolver)

    @classmethod
    def from_file(
        cls,
        file: str | PathLike[str],
        *,
        dsn: str | None = None,
        persistence: PersistenceConfig | Mapping[str, object] | None = None,
        scheduling: SchedulingConfig | Mapping[str, object] | None = None,
        execution: ExecutionConfig | Mapping[str, object] | None = None,
        resolver: Resolver | None = None,
    ) -> Self:
        """Make an app with the settings of a JSON or TOML file; arguments and environment take precedence.

        Raises:
            ConfigError: The file can't be read, or a setting is unknown or not allowed.
        """
        config = load(dsn=dsn, persistence=persistence, scheduling=scheduling, execution=execution, file=str(file))
        app = cls.__new__(cls)
        app._set_up(config, resolver)  # noqa: SLF001 - its own
        return app

    def _set_up(self, config: Config, resolver: Resolver | None) -> None:
        self.config = config
        self.resolver = resolver
        self.names: Names = names_of(config.persistence.schema_name)
        self._tasks: dict[str, Task[Any, Any, Any, Any]] = {}
        self.tasks: Mapping[str, Task[Any, Any, Any, Any]] = MappingProxyType(self._tasks)
        self._client = Client(config, self.names, self.tasks)
        self._blocking_pool = BlockingPool(
            max_connections=config.execution.max_connections, may_prepare=config.persistence.prepared_statements
        )
        self.blocking = Blocking(
            self._client.verbs,
            functools.partial(self._blocking_pool.connection, self._blocking_dsn),
            self._blocking_pool.close,
            polling_seconds=config.scheduling.polling_delay.total_seconds(),
        )
        self._server: EmbeddedServer | None = None
        self._opened = 0
        self._home: Home | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<App with {len(self._tasks)} tasks in schema {self.names.schema_name!r}>"

    # ---- define

    def task(self, name: str, **options: Unpack[TaskOptions]) -> TaskDecorator:
        """Make a task of the function or class below: `@app.task("orders.import", timeout=timedelta(hours=2))`.

        Args:
            name: What its jobs are stored under. It outlives the code: choose one that may stay.
            options: `queue`, `priority`, `timeout`, `max_retry_count`, `scheduler_retry_count`,
                `scheduler_retry_delays`, as `TaskOptions` says.

        Raises:
            DefinitionError: The name or an option isn't allowed; and, when it decorates, the handler.
        """
        _check_name(name)

        return TaskDecorator(functools.partial(self._register, name, options))

    def _register(self, name: str, options: TaskOptions, handler: Any, names: Mapping[str, Any] | None) -> Any:
        task = define(name, handler, dict(options), self._client, names)
        if name in self._tasks:
            message = f"task {name!r}: there are two of this name: {_place(self._tasks[name])} and {_place(task)}"
            raise DefinitionError(message)
        marked = mark(handler, task) if isinstance(handler, type) else task
        self._tasks[name] = task
        return marked

    # ---- open and close

    async def open(self) -> None:
        """Open the connections; on the embedded database, start it and migrate it. Opens count: close as often.

        Raises:
            DatabaseUnavailable: There is no database, or it lets nobody in.
            ServerTooOld: It is older than PostgreSQL 14.
            EmbeddedError: There is no dsn, and the embedded PostgreSQL can't be used here.
            MisuseError: It is open in another event loop, which hasn't ended.
        """
        async with self._turn("open"):
            if self._client.is_orphaned:
                self._opened = 0
                self._client.forget()
                await held(in_own_thread(self._close_server, _CLOSES))
            if self._opened == 0:
                await self._open()
            self._opened += 1

    async def close(self) -> None:
        """Close what `open` opened, once it is closed as often as it was opened.

        A cancellation doesn't break that off, and is raised afterwards: nobody could close later what it would leave.

        Raises:
            MisuseError: It is open in another event loop, which hasn't ended; it stays so.
        """
        async with self._turn("close"):
            if self._opened == 0:
                return
            self._opened -= 1
            if self._opened == 0:
                await held(self._close())

    def _turn(self, purpose: str) -> asyncio.Lock:
        """Return the lock by which openings and closings take turns; no event loop can use another's.

        Raises:
            MisuseError: The app is open in another event loop, or just being opened or closed there.
        """
        home = self._home
        if home is not None and not home.is_gone and (self._opened or self._opening.locked()):
            home.check(purpose)
        elif home is None or home.is_gone or not home.is_here:
            self._home, self._opening = Home(), asyncio.Lock()
        return self._opening

    async def __aenter__(self) -> Self:
        """Open the app."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the app."""
        await self.close()

    async def migrate(self, *, roles: bool = False) -> list[Migration]:
        """Bring the schema up to date, and return what was applied for that.

        Args:
            roles: Whether to make the schema's roles (owner, worker, starter, viewer), or renew their rights; not in
                `public`, which isn't perdure's alone.

        Raises:
            MissingRight: The database's user may not do that.
            MigrationFailed: A migration couldn't be applied; nothing of it was kept.
            SchemaTooNew: The schema belongs to a newer perdure.
        """
        self._client.pool("migrate")
        return await self._migrate(self.dsn, with_roles=roles)

    # ---- run

    def worker(
        self,
        *,
        queues: Iterable[str] | None = None,
        concurrency: int | None = None,
        shutdown_grace: Duration | None = None,
    ) -> Worker:
        """Make a worker of this process: `async with app.worker(): …`, in an open app.

        Args:
            queues: The queues to serve; all, if None.
            concurrency: Jobs at once; as configured, if None.
            shutdown_grace: How long running jobs may take to end at a stop; as configured, if None.

        Raises:
            MisuseError: The app isn't open, or an argument isn't allowed.
        """
        self._client.pool("worker")
        named = None if queues is None else check_queues(queues, where="worker")
        slots = None if concurrency is None else ExecutionConfig.read("concurrency", concurrency, where="worker")
        grace: timedelta | None = None
        if shutdown_grace is not None:
            grace = ExecutionConfig.read("shutdown_grace", shutdown_grace, where="worker")
        from perdure.worker.worker import Worker  # noqa: PLC0415 - a starter of jobs doesn't need it

        return Worker(
            self,
            queues=named,
            concurrency=slots,
            shutdown_grace_seconds=None if grace is None else grace.total_seconds(),
        )

    # ---- what the worker and the command line need of it

    @property
    def dsn(self) -> str:
        """The database that the app is connected to.

        Raises:
            MisuseError: There is no dsn, and the app isn't open.
        """
        if self._server is not None:
            return self._server.url
        if self.config.dsn is None:
            message = "the app has no dsn and isn't open: the embedded database has its address once it is"
            raise MisuseError(message)
        return self.config.dsn

    @property
    def pool(self) -> AsyncConnectionPool[AsyncConnection[Any]]:
        """The open pool, for handlers' transactions.

        Raises:
            MisuseError: The app isn't open.
        """
        return self._client.pool("transaction").pool

    def blocking_pool(self) -> ConnectionPool[Connection[Any]]:
        """The sync pool, for transactions of handlers that run in threads."""
        return self._blocking_pool.pool(self.dsn)

    async def _open(self) -> None:
        if self.config.dsn is None:
            self._server = await _acquire()
        try:
            await self._client.open(self.dsn)
            if self._server is not None:
                await self._migrate(self.dsn)
        except BaseException:
            await held(self._close())
            raise

    async def _close(self) -> None:
        try:
            if self._client.is_orphaned:
                self._client.forget()
            else:
                await self._client.close()
        finally:
            await in_own_thread(self._close_blocking, _CLOSES)

    def _close_blocking(self) -> None:
        try:
            self._blocking_pool.close()
        finally:
            self._close_server()

    def _close_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _migrate(self, dsn: str, *, with_roles: bool = False) -> list[Migration]:
        # Apart from the pool: migrating makes settings of its connection, and may take long.
        async with await connect(dsn) as connection:
            return await migrate.migrate(connection, self.names, with_roles=with_roles)

    def _blocking_dsn(self, purpose: str) -> str:
        if self._server is None and self.config.dsn is None:
            message = (
                f"{purpose}: without a dsn, the embedded database runs while the app is open: `async with app:`; "
                "or give the app a dsn, or this call a connection="
            )
            raise MisuseError(message)
        return self.dsn


async def _acquire() -> EmbeddedServer:
    """Start or join the embedded server; a cancelled opening doesn't stay its user until the process ends."""
    from perdure.embedded import acquire  # noqa: PLC0415 - whoever names a database doesn't need it

    acquiring = in_own_thread(acquire, "perdure embedded")
    try:
        return await asyncio.shield(acquiring)
    except asyncio.CancelledError:
        acquiring.add_done_callback(_give_up)
        raise


def _give_up(acquired: asyncio.Future[EmbeddedServer]) -> None:
    if not acquired.cancelled() and acquired.exception() is None:
        acquired.result().close()


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        message = f'app.task takes the task\'s name: @app.task("orders.import"), not {shorten(name)}'
        raise DefinitionError(message)
    if not (name and name.isprintable() and len(name) <= 200):  # noqa: PLR2004 - in the message
        message = f"task {shorten(name)}: a task's name has 1 to 200 printable characters"
        raise DefinitionError(message)


def _place(task: Task[Any, Any, Any, Any]) -> str:
    return f"{task.handler.__module__}.{task.handler.__qualname__}"
