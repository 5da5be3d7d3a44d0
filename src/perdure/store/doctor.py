"""What may be wrong with a database, and what to do about it: for `perdure doctor`. Changes nothing.

Each check answers with one finding. A problem keeps jobs from being run as promised; a note is worth knowing.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from perdure.store import calls
from perdure.store.calls import Call
from perdure.store.migrate import MAJOR, schema_state
from perdure.store.roles import Rights, how_to_get, read_rights
from perdure.store.sql import quote_identifier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from psycopg import AsyncConnection

    from perdure.store.migrate import SchemaState
    from perdure.store.sql import Names

    Connect = Callable[[], Awaitable[AsyncConnection[Any]]]

__all__ = ["Finding", "examine"]

_NOTIFICATION_SECONDS: Final = 3.0
_CLOCK_SECONDS: Final = 10.0
_SHORT_TIMEOUT_SECONDS: Final = 60.0
_RISKS: Final = {
    "fsync": "a crash of the machine may ruin the whole database",
    "full_page_writes": "a crash of the machine may ruin the whole database",
    "synchronous_commit": "a crash of the server may lose what it has acknowledged, so jobs as well",
    "autovacuum": "the tables of jobs swell, and claims become slow",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check.

    Attributes:
        check: What was looked at.
        level: "ok"; "note", worth knowing; "problem", to be mended.
        text: What was found.
        advice: What to do; empty when there is nothing to do.
    """

    check: str
    level: Literal["ok", "note", "problem"]
    text: str
    advice: str = ""


class _Server(NamedTuple):
    backend_pid: int
    is_standby: bool
    encoding: str
    isolation: str
    switched_off: list[str]
    read_only: bool
    statement_timeout_seconds: float
    transaction_timeout_seconds: float


class _Schema(NamedTuple):
    workers: int
    unreadable: list[str]
    finished: int
    history_bytes: int


async def examine(connect: Connect, names: Names) -> AsyncGenerator[Finding]:
    """Look at a database that can be connected to, finding by finding.

    Args:
        connect: Opens a connection in autocommit mode.
        names: The schema that is meant.
    """
    async with await connect() as connection:
        info = connection.info
        yield Finding("server", "ok", f"PostgreSQL {info.parameter_status('server_version')}")
        server = await calls.run(
            connection, Call(names.statements["doctor_server"], {}, lambda rows: _Server(*rows[0]))
        )
        yield _writable(server)
        yield _encoding(server)
        async for finding in _settings(server):
            yield finding
        yield await _clock(connection, names)
        yield _pooler(server, connected_pid=info.backend_pid)
        yield await _notifications(connect)
        rights = await read_rights(connection, names)
        if rights is not None:
            yield _allowed(rights, names, info.user)
            if not rights.may_read:
                return  # what is denied can't be looked into
        state = await schema_state(connection, names)
        yield _schema(state, names)
        if state.exists and not state.pending:
            found = await calls.run(connection, _contents(names))
            yield _workers(found)
            yield _readable(found)
            yield _history(found)


def _writable(server: _Server) -> Finding:
    if server.is_standby:
        advice = "connect to the primary; with several hosts in the dsn: target_session_attrs=read-write"
        return Finding("writable", "problem", "the server is a standby: it can't be written to", advice)
    if server.read_only:
        advice = "set default_transaction_read_only to off for this user or database"
        return Finding("writable", "problem", "transactions are read-only by default", advice)
    return Finding("writable", "ok", "it takes writes")


def _encoding(server: _Server) -> Finding:
    if server.encoding == "UTF8":
        return Finding("encoding", "ok", "UTF8")
    text = f"the database's encoding is {server.encoding}, which can't hold every payload"
    return Finding(
        "encoding", "problem", text, "use a database made with: create database … encoding 'UTF8' template template0"
    )


async def _settings(server: _Server) -> AsyncGenerator[Finding]:
    for name in server.switched_off:
        yield Finding("settings", "note", f"{name} is off: {_RISKS[name]}", "for data that matters: set it to on")
    if server.isolation != "read committed":
        text = f"default_transaction_isolation is {server.isolation}: claims and starts may fail for each other"
        yield Finding("settings", "problem", text, "set it to 'read committed' for the user that workers connect as")
    timeouts = {
        "statement_timeout": server.statement_timeout_seconds,
        "transaction_timeout": server.transaction_timeout_seconds,
    }
    for name, seconds in timeouts.items():
        if 0 < seconds < _SHORT_TIMEOUT_SECONDS:
            text = f"{name} is {seconds:g} s: what takes longer in ctx.transaction() is cut off and fails"
            yield Finding(
                "settings", "note", text, "raise it for the user that workers connect as, if blocks may be longer"
            )


async def _clock(connection: AsyncConnection[Any], names: Names) -> Finding:
    call = Call(names.statements["doctor_clock"], {}, lambda rows: rows[0][0])
    before, began_seconds = datetime.now(UTC), time.perf_counter()
    there: datetime = await calls.run(connection, call)
    trip_seconds = time.perf_counter() - began_seconds
    ahead_seconds = (there - before).total_seconds() - trip_seconds / 2
    text = f"the database's clock and this machine's are {abs(ahead_seconds):.3f} s apart (± {trip_seconds / 2:.3f} s)"
    if abs(ahead_seconds) - trip_seconds / 2 < _CLOCK_SECONDS:
        return Finding("clock", "ok", text)
    advice = (
        "the database's clock decides what is due: set this machine's by NTP, or give durations instead of times (at=)"
    )
    return Finding("clock", "problem", text, advice)


def _pooler(server: _Server, *, connected_pid: int) -> Finding:
    # A pooler tells its clients process ids of its own making.
    if server.backend_pid == connected_pid:
        return Finding("pooler", "ok", "no pooler is in between")
    text = "a pooler such as pgbouncer is in between"
    advice = "nothing is prepared behind it, so a direct connection serves workers best"
    return Finding("pooler", "note", text, advice)


async def _notifications(connect: Connect) -> Finding:
    """Notify oneself over another connection: on the same one it might arrive where no other would."""
    channel = f"perdure_doctor_{secrets.token_hex(8)}"
    began_seconds = time.perf_counter()
    async with await connect() as listening, await connect() as telling:
        await listening.execute(f"listen {quote_identifier(channel)}".encode())
        await telling.execute("select pg_notify(%s, '')", [channel])
        try:
            async for _notification in listening.notifies(timeout=_NOTIFICATION_SECONDS, stop_after=1):
                took_seconds = time.perf_counter() - began_seconds
                return Finding("notifications", "ok", f"one arrived after {took_seconds * 1000:.0f} ms")
        finally:
            await listening.execute(b"unlisten *")  # the session may be given to somebody else
    text = (
        f"none arrived within {_NOTIFICATION_SECONDS:g} s, as behind a pooler in transaction mode: jobs wait for polls"
    )
    advice = "where that is too slow (scheduling.polling_delay): give workers a direct connection"
    return Finding("notifications", "note", text, advice)


def _schema(state: SchemaState, names: Names) -> Finding:
    name = repr(names.schema_name)
    if not state.exists:
        return Finding("schema", "problem", f"the schema {name} isn't there", "run: perdure migrate")
    if state.major > MAJOR:
        text = f"the schema {name} is of major version {state.major}, this perdure knows {MAJOR}"
        return Finding("schema", "problem", text, "upgrade perdure here")
    if state.pending:
        missing = ", ".join(f"{migration.number:03}_{migration.name}" for migration in state.pending)
        return Finding("schema", "problem", f"the schema {name} lacks {missing}", "run: perdure migrate")
    if state.changed:
        numbers = ", ".join(f"{number:03}" for number in state.changed)
        text = f"the schema {name} was made by other versions of the migrations {numbers} than these"
        return Finding("schema", "problem", text, "find out who changed them: this may be another schema than it seems")
    return Finding("schema", "ok", f"the schema {name} is up to date, at migration {max(state.applied):03}")


def _allowed(rights: Rights, names: Names, user: str) -> Finding:
    denied = ", ".join(rights.denied)
    advice = f"a worker uses {denied} as well: {how_to_get('worker', names, user)}"
    match rights:
        case Rights(denied=[]):
            return Finding("rights", "ok", f"the user {user!r} may do all that is needed")
        case Rights(may_start=True, may_read=True):
            text = f"the user {user!r} may start jobs, send events and read; it may not work"
        case Rights(may_start=True):
            text = f"the user {user!r} may start jobs and send events; it may not read, nor work"
        case Rights(may_read=True):
            text = f"the user {user!r} may only read"
        case _:
            text = f"the user {user!r} may not use {denied}"
            return Finding("rights", "problem", text, advice)
    return Finding("rights", "note", text, advice)


def _workers(found: _Schema) -> Finding:
    if found.workers:
        return Finding("workers", "ok", f"{found.workers} with a valid lease")
    return Finding("workers", "note", "no worker is running", "start one: perdure worker MODULE:APP")


def _readable(found: _Schema) -> Finding:
    if not found.unreadable:
        return Finding("tasks", "ok", "no job waits for code that workers don't have")
    text = f"jobs of {', '.join(map(repr, found.unreadable))} wait for a worker that knows the task and can read them"
    return Finding(
        "tasks", "problem", text, "start a worker with their code; perdure jobs list --name … tells what is wrong"
    )


def _history(found: _Schema) -> Finding:
    size = f"{found.history_bytes / 1024**2:,.0f} MB"
    text = f"finished jobs are kept: nothing deletes them by itself (about {found.finished:,} now, {size})"
    return Finding("retention", "note", text, "how to delete old ones: docs/operations.md#deleting-finished-jobs")


def _contents(names: Names) -> Call[_Schema]:
    history = f"{quote_identifier(names.schema_name)}.finished_jobs"
    return Call(names.statements["doctor_schema"], {"history": history}, lambda rows: _Schema(*rows[0]))
